"""The schedule spec: what a user declares, as plain data. It says what turns binary, and when.

A field that changes a result has no default: what is left out is an error that names the paper's value. The exceptions
are choices beyond the paper: what has a default here is, left out, what the paper does.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
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
from frostline.schedules.surrogates import Surrogate

ROLES = ("first", "last", "downsample")
"""The roles that an operation can have in the graph; every other word in `keep_float` is a name pattern."""

ORDERS = ("forward", "reverse", "global")
LENGTHS = ("equal", "parameters")

Pattern = Annotated[str, Field(min_length=1)]
"""A site's name, or a shell-style pattern of it; `*` crosses dots."""

Per = Literal["element", "channel"]
"""What has a mask entry of its own: each element of a value, or each channel."""

DepthRule = Literal["asap", "alap", "module"]
"""How depth is counted: from the model's input, from its output, or in the order in which modules are registered."""

Group = Literal["depth", "block"]
"""What shares a window: the sites of one depth, or of one element of the outermost list of modules that they are in."""

Stages = Literal["together", "activations_first", "weights_first"]
"""Whether weights and activations turn in the same windows, or the one kind in windows before the other's."""

Transition = Literal["mask", "sharpen"]
"""How a site turns: entry by entry behind a mask, or all entries alike, along a ramp that becomes a step."""

Scale = Literal["none", "channel"]
"""By what a binary weight is multiplied: nothing, or its channel's mean absolute value (XNOR-Net, arXiv 1603.05279)."""

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
    if isinstance(value, list | tuple) and value and all(isinstance(item, str) and item for item in value):
        return tuple(value)
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


Order = Annotated[str | tuple[str, ...], _words_or_list(_order, ORDERS, core_schema.str_schema(min_length=1))]
Lengths = Annotated[str | tuple[float, ...], _words_or_list(_lengths, LENGTHS, core_schema.float_schema(gt=0, lt=1e9))]
Rate = Annotated[
    int | Literal["none"],
    PlainValidator(_rate),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 1_000_000}, {"const": "none"}]}),
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _whole(value: object) -> object:
    """True and 1.0 equal 1 in Python, but are no version."""
    return value if type(value) is int else str(value)


class Binarize(_Part):
    """What turns binary: weights, activations or both, and what stays float. `scale` multiplies binary weights."""

    weights: bool
    activations: bool
    keep_float: Annotated[tuple[Pattern, ...], Field(strict=False)]
    scale: Scale = "none"

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.weights or self.activations):
            raise ValueError("nothing would turn binary: set weights, activations or both to true")
        return self


class Gradient(_Part):
    """The surrogate of frozen entries; `tail`, if given, is that of fine-tuning, once every site is settled."""

    frozen: Surrogate
    tail: Surrogate | None = None

    @property
    def changes(self) -> bool:
        """Whether it is not the same in every step."""
        return self.tail is not None or self.frozen.sharpness_at(0) is not None


class Refresh(_Part):
    """Soft refresh: in every step 1/rate of a turning site's noise is drawn anew; with `none`, it never is."""

    rate: Rate


class Progression(_Part):
    """When the sites turn binary, and in which portions.

    `depth` is what the orders forward and reverse count by; `windows` how long the windows are, beside each other;
    `per` what has a mask entry of its own; `hold` keeps the latent value of a frozen weight where it was.
    """

    order: Order
    depth: DepthRule = "asap"
    group: Group = "depth"
    stages: Stages = "together"
    transition: Transition = "mask"
    per: Per = "element"
    curve: Curve
    refresh: Refresh
    windows: Lengths = "equal"
    hold: bool = False
    warmup: DurationField
    tail: DurationField

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


class BatchNorm(_Part):
    """The number of batches from which the statistics of BatchNorm are estimated anew in the binary network."""

    reestimate: Annotated[int, Field(ge=1, le=1_000_000)]


class Override(_Part):
    """What differs for the sites that a pattern matches.

    The levels [0, 1] are for activations that are never negative, and would have one sign only.
    """

    sites: Pattern
    curve: Curve | None = None
    refresh: Refresh | None = None
    gradient: Gradient | None = None
    per: Per | None = None
    levels: LevelsField | None = None
    scale: Scale | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if all(change is None for name, change in self if name != "sites"):
            raise ValueError(
                "the override changes nothing: give it a curve, a refresh, a gradient, per, levels or scale"
            )
        return self


class ScheduleSpec(_Part):
    """A whole schedule, as `load_spec` reads it from a file."""

    version: Annotated[Literal[1], BeforeValidator(_whole)]
    binarize: Binarize
    gradient: Gradient
    progression: Progression
    overrides: Annotated[tuple[Override, ...], Field(strict=False)] = ()
    batch_norm: BatchNorm | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)]

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
