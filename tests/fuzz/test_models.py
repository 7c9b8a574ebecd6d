"""Model files that others wrote, with a digest that fits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

import frostline as fl
from frostline.compiler.contents import contents
from frostline.compiler.exported import read_certificate
from frostline.errors import DriftError, FileError
from frostline.passes.lowering.cpu_int8 import CPU_INT8
from tests.fuzz.borders import binary_graph, certified, model_file, read_any_model, stamped
from tests.models.products import compared

NUMBERS = st.sampled_from([0, 1, -1, 3, 32, 2**31, 2**62, -(2**63)])
WORDS = st.sampled_from(
    ["", "x", "../x", "[/red]", "\x1b[2J", "conv", "Binarize", "BinaryConv", "Constant", "Clip", "frostline"]
)


def good() -> onnx.ModelProto:
    return onnx.load_model_from_string(model_file())


@st.composite
def almost_models(draw: st.DrawFn) -> bytes:
    """A good model in which some parts are others."""
    model = good()
    for _ in range(draw(st.integers(1, 3))):
        graph = model.graph
        node = draw(st.sampled_from([*graph.node, *(node for each in model.functions for node in each.node)]))
        change = draw(st.integers(0, 8))
        if change == 0:
            node.op_type = draw(WORDS | st.sampled_from([each.op_type for each in graph.node]))
        elif change == 1:
            node.domain = draw(WORDS)
        elif change == 2:
            names = draw(st.sampled_from([node.input, node.output]))
            del names[draw(st.integers(0, len(names))) :]
        elif change == 3:
            others = [name for each in graph.node for name in (*each.input, *each.output)]
            node.input.append(draw(st.sampled_from(others)))
        elif change == 4 and node.attribute:
            _change(draw, draw(st.sampled_from([*node.attribute])))
        elif change == 5:
            _distort(draw, draw(st.sampled_from([*graph.initializer])))
        elif change == 6:
            del node.attribute[draw(st.integers(0, len(node.attribute))) :]
        elif change == 7:
            model.functions.append(draw(st.sampled_from([*model.functions])))
        else:
            value = draw(st.sampled_from([*graph.input, *graph.output]))
            value.type.tensor_type.elem_type = draw(st.integers(0, 20))
    return bytes(model.SerializeToString())


def _change(draw: st.DrawFn, attribute: AttributeProto) -> None:
    name = attribute.name
    attribute.Clear()
    value: Any = draw(NUMBERS | st.lists(NUMBERS, min_size=1, max_size=4) | WORDS | st.just(1.5))
    attribute.CopyFrom(helper.make_attribute(name, value))


def _distort(draw: st.DrawFn, tensor: TensorProto) -> None:
    tensor.dims[:] = draw(st.lists(NUMBERS, max_size=4))
    if draw(st.booleans()):
        tensor.data_type = draw(st.integers(0, 20))
    if draw(st.booleans()):
        tensor.raw_data = tensor.raw_data[: draw(st.integers(0, 40))]


@settings(max_examples=25, deadline=None)
@given(almost_models())
def test_almost_models(content: bytes) -> None:
    read_any_model(content)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**5), st.binary(min_size=1, max_size=4)), max_size=5), st.booleans())
def test_damaged_models(changes: list[tuple[int, bytes]], cut: bool) -> None:
    content = bytearray(model_file())
    for place, other in changes:
        content[place % len(content) : place % len(content) + len(other)] = other
    read_any_model(bytes(content[: len(content) // 2]) if cut else bytes(content))


def test_the_good_one_passes(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(stamped(model_file()))
    assert fl.verify(path, binary_graph()).samples == 2
    assert "BinaryConv" in contents(path)


def node(model: onnx.ModelProto, kind: str) -> NodeProto:
    return next(each for each in model.graph.node if each.op_type == kind)


def bits(model: onnx.ModelProto) -> TensorProto:
    return next(each for each in model.graph.initializer if each.name == node(model, "BinaryConv").input[1])


def elsewhere(tensor: TensorProto) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")


def function_calls(model: onnx.ModelProto, levels: int) -> None:
    """Functions that each call the one before twice."""
    before, domain = "Neg", ""
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("other", 1)]
    for level in range(levels):
        calls = [helper.make_node(before, [a], [b], domain=domain) for a, b in (("x", "t"), ("t", "y"))]
        before, domain = f"Level{level}", "other"
        model.functions.append(helper.make_function(domain, before, ["x"], ["y"], calls, opsets))
    model.opset_import.append(helper.make_opsetid("other", 1))
    model.graph.node.append(helper.make_node(before, [model.graph.input[0].name], ["much"], domain=domain))


def attribute(kind: str, name: str, value: Any) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        found = next(each for each in node(model, kind).attribute if each.name == name)
        found.CopyFrom(helper.make_attribute(name, value))

    return change


def itself(model: onnx.ModelProto) -> None:
    own = next(each for each in model.functions if each.name == "Binarize")
    own.opset_import.append(helper.make_opsetid("frostline", 1))
    own.node[-1].CopyFrom(helper.make_node("Binarize", ["x"], ["y"], domain="frostline"))


def constant_elsewhere(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "hidden")
    elsewhere(tensor)
    model.functions[0].node.insert(0, helper.make_node("Constant", [], ["hidden"], value=tensor))


CHANGES: dict[str, tuple[Callable[[onnx.ModelProto], Any], str]] = {
    "a weight elsewhere": (lambda model: elsewhere(model.graph.initializer[0]), "is not in the file"),
    "a constant of a function elsewhere": (constant_elsewhere, "tensor hidden is not in the file"),
    "functions without end": (lambda model: function_calls(model, 40), "more than 100,000 nodes"),
    "a function that calls itself": (itself, "its functions call themselves"),
    "another operator": (lambda m: setattr(node(m, "BinaryConv"), "op_type", "FusedConv"), "no operator of frostline"),
    "no inputs": (lambda model: node(model, "BinaryConv").input.__delitem__(slice(None)), "has not the inputs"),
    "no attributes": (lambda model: node(model, "BinaryConv").attribute.__delitem__(slice(None)), "no proper inputs"),
    "a site that is no word": (attribute("BinaryConv", "site", 3), "has no proper site"),
    "a site that is no text": (attribute("BinaryConv", "site", b"\xff"), "has no proper site"),
    "no group": (attribute("BinaryConv", "group", 0), "a window that cannot be"),
    "no pads": (attribute("BinaryConv", "pads", [1]), "a window that cannot be"),
    "too many inputs": (attribute("BinaryConv", "inputs", [2**62]), "bits of another shape"),
    "floats for bits": (lambda model: setattr(bits(model), "data_type", TensorProto.INT8), "no bits in the file"),
    "more values than it says": (lambda model: model.graph.initializer[0].dims.__delitem__(slice(None)), "reshape"),
    "bits without outputs": (lambda model: bits(model).dims.__setitem__(0, 0), "reshape"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_no_file_of_ours_does(change: str, tmp_path: Path) -> None:
    model, (make, fault) = good(), CHANGES[change]
    make(model)
    (tmp_path / "model.onnx").write_bytes(stamped(bytes(model.SerializeToString())))
    for opening in (read_certificate, fl.session, lambda path: fl.verify(path, binary_graph())):
        with pytest.raises(FileError, match=fault):
            opening(tmp_path / "model.onnx")


def beside(name: str, array: np.ndarray[Any, Any]) -> Callable[[onnx.ModelProto], None]:
    """Another tensor in the place of one that is read."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(array, "another"))
        read = node(model, "BinaryConvBinarizeAt").input
        read[[*read].index(name)] = "another"

    return change


COMPARED: dict[str, tuple[Callable[[onnx.ModelProto], Any], str]] = {
    "no high levels": (lambda m: node(m, "BinaryConvBinarizeAt").input.__delitem__(3), "has not the inputs"),
    "one threshold": (beside("thresholds", np.zeros(1, np.float32)), "no thresholds of its channels"),
    "thresholds of another type": (beside("thresholds", np.zeros(4, np.int32)), "no thresholds of its channels"),
    "computed levels": (lambda m: node(m, "BinaryConvBinarizeAt").input.__setitem__(3, "x"), "no thresholds of its"),
    "no operation": (lambda m: node(m, "BinaryConvBinarizeAt").attribute.__delitem__(-1), "no proper operation"),
    "an operation that is a number": (attribute("BinaryConvBinarizeAt", "operation", 3), "no proper operation"),
}


@pytest.mark.parametrize("change", COMPARED)
def test_what_no_operation_that_compares_its_sums_does(change: str, tmp_path: Path) -> None:
    model, (make, fault) = compared().model(CPU_INT8), COMPARED[change]
    onnx.save(model, tmp_path / "model.onnx")
    fl.session(tmp_path / "model.onnx", "cpu")
    make(model)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(FileError, match=fault):
        fl.session(tmp_path / "model.onnx", "cpu")


@pytest.mark.parametrize(
    ("name", "numbers"), [("pads", [2**62] * 4), ("strides", [2**62] * 2), ("dilations", [2**40] * 2)]
)
def test_windows_that_wrap_around_are_refused(name: str, numbers: list[int], tmp_path: Path) -> None:
    model = good()
    attribute("BinaryConv", name, numbers)(model)
    (tmp_path / "model.onnx").write_bytes(bytes(model.SerializeToString()))
    with pytest.raises(FileError, match=r"is too large|ShapeInferenceError"):
        fl.session(tmp_path / "model.onnx", "cpu")


def test_the_tensors_of_a_foreign_model_may_lie_beside_it_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(np.ones(4, np.float32).tobytes())
    (tmp_path / "inside").mkdir()
    for folder, location in ((tmp_path, "secret"), (tmp_path / "inside", "../secret")):
        tensor = TensorProto(name="w", dims=[4], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=location)
        value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
        out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
        graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [value], [out], [tensor])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
    (y,) = fl.session(tmp_path / "model.onnx", "cpu").run(None, {"x": np.zeros(4, np.float32)})
    assert y.tolist() == [1, 1, 1, 1]
    with pytest.raises(FileError, match="tensor w is outside of the file's folder"):
        fl.session(tmp_path / "inside" / "model.onnx", "cpu")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"sites": "many"}, "sites: Input should be a valid integer"),
        ({"file_bytes": 0}, "file_bytes: Input should be greater than or equal to 1"),
        ({"float_bytes": 10**400}, "float_bytes: Input should be less than"),
        ({"deviation": float("inf")}, "deviation: Input should be a finite number|deviation: Input should be a valid"),
        ({"constant": [1]}, "constant.0: Input should be a valid string"),
        ({"operations": [{}]}, "operations.0.operation: Field required"),
        ({"more": 1}, "more: Unexpected keyword argument"),
    ],
)
def test_what_is_no_certificate(changes: dict[str, Any], fault: str, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(certified(**changes))
    with pytest.raises(FileError, match=fault):
        read_certificate(tmp_path / "model.onnx")


def test_a_certificate_of_before_some_sites_compared_integers() -> None:
    text = json.dumps({name: value for name, value in _certificate().items() if name != "by_integers"})
    assert fl.Certificate.from_json(text).by_integers == 0


def _certificate() -> dict[str, Any]:
    held = {entry.key: entry.value for entry in good().metadata_props}
    found: dict[str, Any] = json.loads(held["frostline.certificate"])
    return found


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    model = good()
    node(model, "BinaryConv").name = "[/red] [bold]:smile:"
    (tmp_path / "model.onnx").write_bytes(bytes(model.SerializeToString()))
    assert "[/red] [bold]:smile:" in contents(tmp_path / "model.onnx")


def test_a_file_of_another_graph_drifts(tmp_path: Path) -> None:
    """A site that the file does not have, and one whose values have another shape."""
    lacking, reshaped = good(), good()
    site = node(lacking, "Binarize")
    site.CopyFrom(helper.make_node("Identity", site.input, site.output))
    own = next(each for each in reshaped.functions if each.name == "Binarize")
    own.node[-1].output[0] = "z"
    own.node.append(helper.make_node("Shape", ["z"], ["s"]))
    own.node.append(helper.make_node("Cast", ["s"], ["y"], to=TensorProto.FLOAT))
    for model, fault in ((lacking, "the file is not one of this graph"), (reshaped, "the file")):
        (tmp_path / "model.onnx").write_bytes(bytes(model.SerializeToString()))
        with pytest.raises((DriftError, FileError), match=fault):
            fl.verify(tmp_path / "model.onnx", binary_graph())


@pytest.mark.parametrize("path", ["/dev/zero", "a\0b", "a" * 5000, "."])
def test_what_is_no_file(path: str) -> None:
    for opening in (fl.session, read_certificate):
        with pytest.raises(FileError, match="cannot read"):
            opening(path)
