"""A target: the portable model with other functions for the same operators.

Our nodes keep their names, attributes, inputs and float outputs, so a file of any target is proven, shown and verified
like the portable one; what differs is what a runtime finds inside of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import onnx

from frostline.compiler.certificate import AS_FLOAT
from frostline.compiler.exported import compares, named, site_in
from frostline.passes.lowering.functions import DOCS


@dataclass(frozen=True)
class Target:
    """What becomes of a portable model.

    `functions` are all that the target has, by operator. `prepare` changes nodes in place, first. `note` is a line for
    the certificate.
    """

    functions: Mapping[str, onnx.FunctionProto]
    prepare: Callable[[onnx.ModelProto], None] = lambda model: None
    note: str = ""

    def rewrite(self, model: onnx.ModelProto) -> None:
        """Give a portable model this target's functions, in place. `missing` is empty for it.

        Where an operation compares its own sums, the file has the function of the comparison too: a runtime that has
        another operator for the product may take the two apart.
        """
        self.prepare(model)
        del model.functions[:]
        ours = [node for _, node in named(model)]
        kinds = {node.op_type for node in ours} | {site_in(node) for node in ours if compares(node)}
        model.functions.extend(self.functions[name] for name in sorted(kinds))
        for function in model.functions:
            function.doc_string = DOCS[function.name.removesuffix(AS_FLOAT)]
        if self.note:
            model.doc_string = self.note

    def missing(self, model: onnx.ModelProto) -> Iterator[tuple[str, str]]:
        """The operations of a portable model that this target has no function for: name and operator."""
        return ((site, node.op_type) for site, node in named(model) if node.op_type not in self.functions)


def in_float(function: onnx.FunctionProto) -> onnx.FunctionProto:
    """A portable function, under the name of what a target leaves in float32."""
    twin = onnx.FunctionProto()
    twin.CopyFrom(function)
    twin.name += AS_FLOAT
    return twin
