"""The schedule spec: what a user declares, as plain data. It says what turns binary, and when.

A field that changes a result has no default: what is left out is an error that names the paper's value. The exceptions
are choices beyond the paper: what has a default here is, left out, what the paper does.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    GetPydanticSchema,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import core_schema

from frostline.schedules.curves import Curve
from frostline.schedules.durations import DurationField
from frostline.schedules.part import Part
from frostline.schedules.surrogates import Surrogate

ROLES = ("first", "last", "downsample")
"""The roles that an operation can have in the graph; every other word in `keep_float` is a name pattern."""

ORDERS = ("forward", "reverse", "global")
LENGTHS = ("equal", "parameters")

Pattern = Annotated[str, Field(min_length=1, max_length=1000)]
"""A site's name, or a shell-style pattern of it; `*` crosses dots."""

Per = Literal["element", "channel"]
DepthRule = Literal["asap", "alap", "module"]
Group = Literal["depth", "block"]
Stages = Literal["together", "activations_first", "weights_first"]
Transition = Literal["mask", "sharpen"]
Scale = Literal["none", "channel"]

Levels = tuple[Literal[-1, 0], Literal[1]]
"""The two values that a binary value takes, low and high."""

SIGNS: Levels = (-1, 1)
ZERO_ONE: Levels = (0, 1)


def _levels(value: object) -> Levels:
    for known in (SIGNS, ZERO_ONE):
        if isinstance(value, list | tuple) and tuple(value) == known and all(type(level) is int for level in value):
            return known
    raise ValueError("levels are [-1, 1] or [0, 1]")


LevelsField = Annotated[
    Levels,
    PlainValidator(_levels),
    PlainSerializer(list, return_type=list[int]),
    WithJsonSchema({"enum": [list(SIGNS), list(ZERO_ONE)]}),
]


def _lengths(value: object) -> str | tuple[float, ...]:
    if isinstance(value, str) and value in LENGTHS:
        return value
    numbers = value if isinstance(value, list | tuple) else ()
    if numbers and all(type(number) in (int, float) and 0 < number < 1e9 for number in numbers):
        return tuple(numbers)
    raise ValueError(f"lengths are {', '.join(LENGTHS)}, or a list of positive numbers, one a window")


def _rate(value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_000_000:
        return value
    if value == "none":
        return "none"
    raise ValueError("a rate is a whole number from 1 to 1,000,000, or none")


def _order(value: object) -> str | tuple[str, ...]:
    if isinstance(value, str) and value in ORDERS:
        return value
    words = value if isinstance(value, list | tuple) else ()
    if words and all(isinstance(word, str) and 0 < len(word) <= 1000 for word in words):
        return tuple(words)
    raise ValueError(f"an order is {', '.join(ORDERS)}, or a list of name patterns, one window each")


def _words_or_list(parse: Any, words: tuple[str, ...], item: core_schema.CoreSchema) -> GetPydanticSchema:
    """A field that is one of a few words, or a list, and comes with one clear message where it is neither."""
    listed = core_schema.list_schema(item, min_length=1)
    return GetPydanticSchema(
        lambda _source, _handler: core_schema.json_or_python_schema(
            json_schema=core_schema.union_schema([core_schema.literal_schema(list(words)), listed]),
            python_schema=core_schema.no_info_plain_validator_function(parse),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: list(value) if isinstance(value, tuple) else value
            ),
        )
    )


Order = Annotated[
    str | tuple[str, ...], _words_or_list(_order, ORDERS, core_schema.str_schema(min_length=1, max_length=1000))
]
Lengths = Annotated[str | tuple[float, ...], _words_or_list(_lengths, LENGTHS, core_schema.float_schema(gt=0, lt=1e9))]
Rate = Annotated[
    int | Literal["none"],
    PlainValidator(_rate),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 1_000_000}, {"const": "none"}]}),
]


def _whole(value: object) -> object:
    """True and 1.0 equal 1 in Python, but are no version."""
    return value if type(value) is int else str(value)


class Binarize(Part):
    """What turns binary: weights, activations or both, and what stays float."""

    weights: bool
    """Whether weights turn binary."""
    activations: bool
    """Whether activations turn binary."""
    keep_float: Annotated[tuple[Pattern, ...], Field(strict=False)]
    """What stays float: the roles first, last and downsample, and name patterns such as "head.*"."""
    scale: Scale = "none"
    """By what binary weights are multiplied: nothing, or their channel's mean absolute value (XNOR-Net)."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.weights or self.activations):
            raise ValueError("nothing would turn binary: set weights, activations or both to true")
        return self


class Gradient(Part):
    """The gradient that stands in for that of binary entries."""

    frozen: Surrogate
    """The surrogate of entries that are binary already; none is StoMPP without STE, clipped the usual one."""
    tail: Surrogate | None = None
    """The surrogate of fine-tuning, once every site is settled; left out, it is that of frozen entries."""

    @property
    def changes(self) -> bool:
        """Whether it is not the same in every step."""
        return self.tail is not None or self.frozen.sharpness_at(0) is not None


class Refresh(Part):
    """Soft refresh: in every step a part of a turning site's noise is drawn anew."""

    rate: Rate
    """In every step 1/rate of the noise is drawn anew; with none, it never is. The paper's is 100."""


class Progression(Part):
    """When the sites turn binary, and in which portions."""

    order: Order
    """Which sites turn first: those at the input, those at the output, all at once, or as a list of name patterns."""
    depth: DepthRule = "asap"
    """How depth is counted: from the model's input, from its output, or in the order in which modules stand."""
    group: Group = "depth"
    """What shares a window: the sites of one depth, or of one element of the outermost list of modules."""
    stages: Stages = "together"
    """Whether weights and activations turn in the same windows, or the one kind in windows before the other's."""
    transition: Transition = "mask"
    """How a site turns: entry by entry behind a mask, or all entries alike, along a ramp that becomes a step."""
    per: Per = "element"
    """What has a mask entry of its own: each element of a value, or each channel."""
    curve: Curve
    """How the binary share of a site grows inside of its window; the paper's is {kind: power, exponent: 3}."""
    refresh: Refresh
    windows: Lengths = "equal"
    """How long the windows are: equal, as their weights are many, or a list of lengths beside each other."""
    hold: bool = False
    """Whether the latent value of a frozen weight stays where it was, whatever the optimizer does."""
    warmup: DurationField
    """How long nothing turns at the beginning: steps (500), epochs ("3 epochs") or a share ("5%")."""
    tail: DurationField
    """How long the binary network trains at the end: steps (500), epochs ("3 epochs") or a share ("10%")."""

    @model_validator(mode="after")
    def _room(self) -> Self:
        shares = [duration.amount for duration in (self.warmup, self.tail) if duration.unit == "%"]
        if sum(shares) >= 100:
            raise ValueError("warm-up and tail leave no room for a window")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.group == "block" and self.order not in ("forward", "reverse"):
            raise ValueError("blocks are for the orders forward and reverse")
        if self.stages != "together" and not isinstance(self.order, str):
            raise ValueError('a list as order says itself what comes first: leave "stages" out')
        if self.transition == "sharpen" and (self.refresh.rate != "none" or self.per != "element" or self.hold):
            raise ValueError("what sharpens has no mask: it takes `refresh: {rate: none}`, and neither per nor hold")
        return self


class BatchNorm(Part):
    """What is done for BatchNorm once the network is binary."""

    reestimate: Annotated[int, Field(ge=1, le=1_000_000)]
    """The number of batches from which its statistics are estimated anew."""


class Override(Part):
    """What differs for the sites that a pattern matches."""

    sites: Pattern
    """The sites: a name, or a pattern such as "layer4.*.activation"; the most specific pattern wins."""
    curve: Curve | None = None
    """How their binary share grows inside of their window."""
    refresh: Refresh | None = None
    """How their noise is drawn anew."""
    gradient: Gradient | None = None
    """The gradient that stands in for that of their binary entries."""
    per: Per | None = None
    """What of them has a mask entry of its own: each element, or each channel."""
    levels: LevelsField | None = None
    """Their two values: signs, or 0 and 1 for activations that are never negative and would have one sign only."""
    scale: Scale | None = None
    """By what these weights are multiplied: nothing, or their channel's mean absolute value."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if all(change is None for name, change in self if name != "sites"):
            raise ValueError(
                "the override changes nothing: give it a curve, a refresh, a gradient, per, levels or scale"
            )
        return self


class ScheduleSpec(Part):
    """A whole schedule, as `load_spec` reads it from a file."""

    version: Annotated[Literal[1], BeforeValidator(_whole)]
    """The version of this form of specs."""
    binarize: Binarize
    gradient: Gradient
    progression: Progression
    overrides: Annotated[tuple[Override, ...], Field(strict=False)] = ()
    """What differs for some sites."""
    batch_norm: BatchNorm | None = None
    """What is done for BatchNorm once the network is binary; left out, nothing."""
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    """What the noise of the masks is drawn from, and by the command line the initial weights."""

    _lines: dict[tuple[str | int, ...], str] = PrivateAttr(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        """Whether both say the same, wherever they were read from."""
        return isinstance(other, ScheduleSpec) and self.as_data() == other.as_data()

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    def where(self, *path: str | int) -> str | None:
        """The line of the file that holds a field, as `schedule.yaml:7`; None for a spec that came from no file."""
        return self._lines.get(path)

    def as_data(self) -> dict[str, Any]:
        """The spec as plain data: the same mapping that a file would hold."""
        return self.model_dump(mode="json", exclude_none=True)
