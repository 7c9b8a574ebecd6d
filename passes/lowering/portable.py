"""Target `portable`: `frostline.*` nodes with their functions, for any ONNX Runtime from 1.19 on.

Binary operations become operators of our own; everything else goes through `torch.onnx.export`, unoptimised, because
its optimiser folds float factors into binary weights.
"""

from __future__ import annotations

import io
import logging
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import onnx
import torch
from onnx import helper
from onnxscript import values
from torch import Tensor, fx

from frostline.compiler import ties
from frostline.compiler.bits import unpack_row
from frostline.compiler.capture.checks import holds
from frostline.compiler.capture.signature import fitting, unchanged
from frostline.compiler.capture.targets import switch_gradients
from frostline.compiler.exported import DOMAIN, named, readers
from frostline.compiler.graph import Example, Graph, facts
from frostline.compiler.invariants import (
    binary,
    integer,
    is_binarize,
    is_binarize_at,
    is_binary,
    is_unpack,
    levels_of,
    on_bits,
    packed,
)  # fmt: skip
from frostline.compiler.products import above, held_parameters, products_of
from frostline.compiler.rewriting import check
from frostline.compiler.unreached import unreached
from frostline.errors import LoweringError, Offence
from frostline.passes.lowering.flat import Flat
from frostline.passes.lowering.functions import IR_VERSION, OPSET, VERSION, functions
from frostline.passes.use_kernels import bit_operator
from frostline.passes.writing import exchange
from frostline.schedules import SIGNS, ZERO_ONE, Levels

_BINARIZERS: dict[Levels, Any] = {
    SIGNS: torch.ops.frostline.binarize.default,
    ZERO_ONE: torch.ops.frostline.binarize_zero_one.default,
}
_BINARIZERS_AT: dict[Levels, Any] = {
    SIGNS: torch.ops.frostline.binarize_at.default,
    ZERO_ONE: torch.ops.frostline.binarize_zero_one_at.default,
}
_PREFIXES = {None: "", "signs": "Binary", "zero_one": "ZeroOne", "floats": "BinaryWeight"}

_OF_MODULES = ("weight", "weight_bytes", "weight_scale", "bias")
"""Tensors whose reader is named by the module that holds them."""

_CONSTANTS = {"value_float": onnx.TensorProto.FLOAT, "value_int": onnx.TensorProto.INT64}
"""The types of constants that are no tensors."""


def lower_portable(graph: Graph) -> onnx.ModelProto:
    """A binary graph as an ONNX model. Raises PassError for any other graph, LoweringError where the exporter fails."""
    check(graph, (binary, integer, packed), "the graph cannot be lowered: it is not {}")
    lowered = graph.copy()
    _prepare(lowered)
    _use_operators(lowered)
    kept = _kept(lowered)
    model = _export(lowered)
    _finish(model)
    _tell(model, kept)
    return model


def _kept(graph: Graph) -> dict[str, str]:
    """Why tensors stay float, by their names: what products read, and the parameters that none does."""
    reasons = {
        name: one.why
        for one in unreached(graph)
        for name, _ in graph.module.named_parameters()
        if name == one.name or name.startswith(f"{one.name}.")
    }
    return reasons | {
        name: why
        for product in products_of(graph)
        if (why := facts(product.node).kept)
        for name in _held(graph, above(product.weight))
    }


def _held(graph: Graph, nodes: Sequence[fx.Node]) -> Iterator[str]:
    """The names of the tensors that nodes read: parameters, and what they were rounded to."""
    yield from (name for name, _ in held_parameters(graph, nodes))
    yield from (str(node.target) for node in nodes if node.op == "get_attr")


def _tell(model: onnx.ModelProto, kept: Mapping[str, str]) -> None:
    """Names for those who look: of the module whose parameters a node computes with, else of the value that it gives.

    Says why a product is float.
    """
    _name_batch(model)
    names = {node.name for node in model.graph.node if node.domain == DOMAIN}
    float_nodes = {node.output[0]: node for node in model.graph.node if node.domain != DOMAIN}
    for tensor, node in readers(model).items():
        module, _, name = tensor.rpartition(".")
        told = module if name in _OF_MODULES and module else tensor
        if told not in names and float_nodes.pop(node.output[0], None):
            names.add(told)
            node.name = told
        if tensor in kept and node.domain != DOMAIN:
            node.doc_string = f"float: {kept[tensor]}"
    for value, node in float_nodes.items():
        node.name = value if value not in names else f"{node.op_type}.{value}"


def _name_batch(model: onnx.ModelProto) -> None:
    """Call the free size of inputs and outputs `batch`, in place of the numbers that the exporter counted."""
    values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    sizes = [size for value in values for size in value.type.tensor_type.shape.dim if size.dim_param]
    batches = {
        value.type.tensor_type.shape.dim[0].dim_param for value in model.graph.input if value.type.tensor_type.shape.dim
    }
    symbols = re.compile("|".join(rf"\b{re.escape(symbol)}\b" for symbol in batches if symbol) or "$^")
    for size in sizes:
        size.dim_param = symbols.sub("batch", size.dim_param)


def _use_operators(graph: Graph) -> None:
    """conv(binarize(x), unpack(bits)) -> frostline.binary_conv(frostline.binarize(x), bits).

    Products of signs that have no such operator are rounded, for the same reason as in `functions.py`.
    """
    nodes = graph.module.graph
    for product in products_of(graph):
        if on_bits(product):
            exchange(graph, product.node, *bit_operator(product))
        elif is_binary(product.activation) and is_binary(product.weight):
            _round(nodes, product.node)
    for node in list(nodes.nodes):
        name = str(facts(node).name)
        if is_unpack(node) and node.users:
            shape = list(facts(node).shape or ())
            inputs = math.prod(shape) if node.target is unpack_row else node.args[1]
            arguments = (node.args[0], inputs, shape, name)
            exchange(graph, node, torch.ops.frostline.unpack.default, arguments)
        elif is_unpack(node):
            nodes.erase_node(node)
        elif is_binarize_at(node):
            exchange(graph, node, _BINARIZERS_AT[levels_of(node)], (*node.args, name))
        elif is_binarize(node):
            exchange(graph, node, _BINARIZERS[levels_of(node)], (node.args[0], name))
    graph.module.recompile()


def _prepare(graph: Graph) -> None:
    """Checks and `no_grad` mean nothing in a file, whose TopK chooses the first of equal values anyway."""
    for node in list(graph.nodes):
        if node.target in (switch_gradients, unchanged, fitting, holds):
            graph.module.graph.erase_node(node)
        elif node.target is ties.topk:
            node.target = torch.topk


def _round(nodes: fx.Graph, node: fx.Node) -> None:
    with nodes.inserting_after(node):
        rounded = nodes.call_function(torch.round, (node,))
    node.replace_all_uses_with(rounded, delete_user_cb=lambda user: user is not rounded)


def _export(graph: Graph) -> onnx.ModelProto:
    flat = Flat(graph.module.cpu().eval(), _at_least_two(graph.example))
    results = flat.names_of_results()
    batch = Example(flat.tensors).batch_size()
    moving = tuple(_dynamic(tensor, batch) for tensor in flat.tensors)
    window = ("inputs", "kernel_shape", "strides", "pads", "dilations", "group")
    table: dict[Any, Any] = {
        _BINARIZERS[SIGNS]: _translation("Binarize", "x", ("site",)),
        _BINARIZERS[ZERO_ONE]: _translation("BinarizeZeroOne", "x", ("site",)),
        _BINARIZERS_AT[SIGNS]: _translation("BinarizeAt", "x thresholds high", ("site",)),
        _BINARIZERS_AT[ZERO_ONE]: _translation("BinarizeZeroOneAt", "x thresholds high", ("site",)),
        torch.ops.frostline.binary_linear.default: _translation("Linear", "x bits", ("inputs", "operand", "site")),
        torch.ops.frostline.binary_conv.default: _translation("Conv", "x bits", (*window, "operand", "site")),
        torch.ops.frostline.binary_narrow_conv.default: _translation(
            "NarrowConv", "x bits", ("inputs", "shape", *window[1:], "operand", "site")
        ),
        torch.ops.frostline.unpack.default: _translation("Unpack", "bits", ("inputs", "shape", "site")),
    }
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                flat, flat.tensors, input_names=flat.names, output_names=results, dynamo=True, optimize=False,
                verbose=False, opset_version=OPSET, dynamic_shapes=(moving,), custom_translation_table=table,
            )  # fmt: skip
    except Exception as error:
        reasons = [Offence(line) for line in _causes(error)]
        raise LoweringError("torch.onnx.export cannot express this graph", reasons) from error
    assert program is not None
    return program.model_proto


def _causes(error: BaseException | None) -> Iterator[str]:
    """The first line of each exception in the chain, the innermost first."""
    if error is not None:
        yield from _causes(error.__cause__)
        lines = (re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in str(error).splitlines())
        yield next((line for line in lines if line), type(error).__name__)


def _at_least_two(example: Example) -> Example:
    """A batch of one would become a constant in the file, so it is doubled."""
    return example.picked([0, 0]) if example.batch_size() == 1 else example


def _dynamic(tensor: Tensor, batch: int | None) -> Any:
    """The first dimension of every input that has the batch's size is dynamic."""
    if tensor.dim() and tensor.shape[0] == batch:
        return {0: torch.export.Dim.DYNAMIC}
    return None


def _translation(kind: str, inputs: str, attributes: tuple[str, ...]) -> Any:
    """How the exporter writes one of our operators: a node of our domain with the same attributes.

    What reads signs is named `BinaryConv`, what reads 0 and 1 `ZeroOneConv`, what reads floats `BinaryWeightConv`;
    linear operations likewise.
    """
    count = len(inputs.split())

    def translate(*arguments: Any) -> Any:
        given = dict(zip(attributes, arguments[count:], strict=True))
        prefix = _PREFIXES[given.pop("operand", None)]
        if "inputs" in given:
            given["inputs"] = [given["inputs"]]
        return _operator(prefix + kind, inputs.split(), tuple(given))(*arguments[:count], **given)

    return translate


def _operator(name: str, inputs: list[str], attributes: tuple[str, ...]) -> values.Op:
    schema = onnx.defs.OpSchema
    kinds = {"site": "STRING", "group": "INT"}
    described = schema(
        name, DOMAIN, VERSION,
        inputs=[schema.FormalParameter(each, "B" if each == "bits" else "T") for each in inputs],
        outputs=[schema.FormalParameter("y", "T")],
        type_constraints=[("T", ["tensor(float)"], ""), ("B", ["tensor(uint8)"], "")],
        attributes=[schema.Attribute(each, getattr(schema.AttrType, kinds.get(each, "INTS"))) for each in attributes],
    )  # fmt: skip
    return values.Op(values.Opset(DOMAIN, VERSION), name, described)


def _finish(model: onnx.ModelProto) -> None:
    """Give our nodes the user's names and the file the functions that they need."""
    model.ir_version = IR_VERSION
    model.producer_name = "frostline"
    _drop_idle_casts(model.graph)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        del part.metadata_props[:]  # the exporter's stack traces, most of the file
    renamed: dict[str, str] = {}
    for site, node in named(model):
        node.name = node.input[0].removeprefix("net.") if node.op_type == "Unpack" else site
        renamed[node.output[0]] = f"{DOMAIN}/{node.name}"  # a name that no exporter gives
    outputs = {value.name for value in model.graph.output}
    for held in model.graph.initializer:
        if held.name not in outputs:
            own = held.name.removeprefix("net.")
            renamed[held.name], held.name = own, own
    for value in [*model.graph.node, *model.graph.value_info]:
        _rename(value, {old: new for old, new in renamed.items() if old not in outputs})
    known = functions()
    model.functions.extend(known[name] for name in sorted({node.op_type for _, node in named(model)}))
    if not any(entry.domain == DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))


def _drop_idle_casts(graph: onnx.GraphProto) -> None:
    """The exporter casts constants to a type that they mostly have: four nodes at every clip, which say nothing."""
    values = [*graph.input, *graph.value_info, *graph.output]
    kinds = {value.name: value.type.tensor_type.elem_type for value in values}
    for node in graph.node:
        if node.op_type == "Constant":
            own = node.attribute[0]
            kinds[node.output[0]] = _CONSTANTS.get(own.name, own.t.data_type)
    returned = {value.name for value in graph.output}
    idle = {
        node.output[0]: node
        for node in graph.node
        if node.op_type == "CastLike" and node.output[0] not in returned
        and kinds.get(node.input[0], 0) == kinds.get(node.input[1], -1)
    }  # fmt: skip
    given = {name: node.input[0] for name, node in idle.items()}
    for node in idle.values():
        graph.node.remove(node)
    for node in graph.node:
        _rename(node, given)


def _rename(value: onnx.NodeProto | onnx.ValueInfoProto, renamed: dict[str, str]) -> None:
    if isinstance(value, onnx.ValueInfoProto):
        value.name = renamed.get(value.name, value.name)
        return
    for names in (value.input, value.output):
        for index, name in enumerate(names):
            names[index] = renamed.get(name, name)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks to the user about itself; none of it is theirs to act on."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
