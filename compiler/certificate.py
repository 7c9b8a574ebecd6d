"""The certificate: what was proven of a written file, as text and in the file's own metadata."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter

AS_FLOAT = "AsFloat"
"""How the kind of an operation ends that a target leaves in float32."""


Count = Annotated[int, Field(ge=0, lt=2**63)]
_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True)
class Proven:
    """What was found for one binary operation, in the file, for the graph's own inputs."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    operation: str
    kind: str
    products: str
    """"equal": its integers are those of the graph; "levels": it compares its integers itself and shows levels alone,
    which are those of the graph; "close": its input is float, so its output is compared so."""
    outputs: Count


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What was compared between a binary graph and the file that was lowered from it."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    target: str
    opset: Count
    sites: Count
    zero_one: Count
    """How many of the sites hold 0 and 1; the others hold -1 and +1."""
    by_integers: Count = 0
    """How many of the sites compare integers with an integer threshold a channel, where no rounding decides."""
    rounded: Count = 0
    """How many weights of products that stay float have 8 bits, and a scale for each output channel."""
    operations: tuple[Proven, ...]
    as_float: tuple[str, ...]
    """Operations of two-valued operands that are computed in float, as standard operators."""
    samples: Count
    pieces: Count
    """How many of the samples went through every piece of the file on its own; all went through the whole."""
    constant: tuple[str, ...]
    """Activations that had one value only for all samples."""
    deviation: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """The largest error of a float value between binary operations, relative to the largest value of its tensor."""
    flips: Count
    """Binary values that differ between file and graph on their own, over all sites and samples."""
    values: Count
    decisions: Count
    agreeing: Count
    steady: Count
    """Samples in which no binary value differs; decisions can differ in the others alone."""
    file_bytes: Annotated[Count, Field(ge=1)]
    float_bytes: Count
    runtime: str
    note: str = ""
    """What the file's target says of its own proof."""

    @property
    def ratio(self) -> float:
        """How many times smaller the file is than the same file with float32 weights."""
        return self.float_bytes / self.file_bytes

    def __str__(self) -> str:
        exact = sum(proof.products == "equal" for proof in self.operations)
        levels = sum(proof.products == "levels" for proof in self.operations)
        close = len(self.operations) - exact - levels
        compared = sum(proof.outputs for proof in self.operations)
        left = [proof.operation for proof in self.operations if proof.kind.endswith(AS_FLOAT)]
        lines = [
            f"certificate: target {self.target}, opset {self.opset}, {self.runtime}, {self.samples} samples",
            f"  two-valued   {self.sites - self.zero_one} sites hold +1 and -1 and nothing else",
        ]
        if self.zero_one:
            lines.append(f"               {self.zero_one} sites hold 0 and 1 and nothing else")
        if self.by_integers:
            counted = f"{self.by_integers} of {self.sites} sites"
            lines.append(f"               {counted} by comparing integers with integer thresholds")
        lines.append(f"  exact        {exact} binary operations give the graph's integers for the graph's own inputs")
        if levels:
            lines.append(f"               {levels} compare their integers inside, and give the graph's levels,")
            lines.append("               also with an integer of each channel as its threshold, and the next one")
        if close:
            lines.append(f"  close        {close} operations of float activations and binary weights")
        lines += [
            f"               {compared:,} outputs compared, of {self.pieces} samples",
            *([f"  in float32   {len(left)} of them, by this target: {', '.join(left)}"] * bool(left)),
            *(
                [f"  as float     {len(self.as_float)} operations of binary weights: {', '.join(self.as_float)}"]
                * bool(self.as_float)
            ),
            *([f"  in 8 bits    {self.rounded:,} weights of operations that stay float"] * bool(self.rounded)),
            f"  float parts  differ from the graph's by at most {self.deviation:.1e} of their largest value",
            f"  end to end   {self.flips:,} of {self.values:,} binary values differ; "
            f"{self.agreeing} of {self.decisions} decisions agree",
            f"  size         {self.file_bytes:,} bytes; with float32 weights {self.float_bytes:,} ({self.ratio:.1f} x)",
        ]
        if self.steady < self.samples:
            lines.append(f"               in {self.steady} of {self.samples} samples no binary value differs")
        if self.note:
            lines.append(f"  NOTE         {self.note}")
        if self.constant:
            names = ", ".join(self.constant)
            lines.append(f"  WARNING      one value only, for all samples, and so no information: {names}")
        return "\n".join(lines)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Certificate:
        """Read what `to_json` wrote, also before `by_integers` and `rounded` were counted.

        Raises pydantic's ValidationError for anything else.
        """
        return _FORM.validate_json(text)


_FORM = TypeAdapter(Certificate)
