"""The schedule spec: what a user declares, as plain data. It says what turns binary, and when.

A field that changes a result has no default: what is left out is an error that names the paper's value. The exceptions
are choices beyond the paper: left out, `per`, `depth` and `levels` are what the paper does.
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

ROLES = ("first", "last", "downsample")
"""The roles that an operation can have in the graph; every other word in `keep_float` is a name pattern."""

ORDERS = ("forward", "reverse", "global")

Pattern = Annotated[str, Field(min_length=1)]
"""A site's name, or a shell-style pattern of it; `*` crosses dots."""

Surrogate = Literal["none", "identity", "clipped"]

Per = Literal["element", "channel"]
"""What has a mask entry of its own: each element of a value, or each channel."""

DepthRule = Literal["asap", "alap", "module"]
"""How depth is counted: from the model's input, from its output, or in the order in which modules are registered."""

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


def _order(value: object) -> str | tuple[str, ...]:
    if isinstance(value, str) and value in ORDERS:
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(item, str) and item for item in value):
        return tuple(value)
    raise ValueError(f"an order is {', '.join(ORDERS)}, or a list of name patterns, one window each")


def _order_schema(_source: Any, _handler: Any) -> core_schema.CoreSchema:
    named = core_schema.literal_schema(list(ORDERS))
    listed = core_schema.list_schema(core_schema.str_schema(min_length=1), min_length=1)
    return core_schema.json_or_python_schema(
        json_schema=core_schema.union_schema([named, listed]),
        python_schema=core_schema.no_info_plain_validator_function(_order),
        serialization=core_schema.plain_serializer_function_ser_schema(
            lambda order: order if isinstance(order, str) else list(order)
        ),
    )


Order = Annotated[str | tuple[str, ...], GetPydanticSchema(_order_schema)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _whole(value: object) -> object:
    """True and 1.0 equal 1 in Python, but are no version."""
    return value if type(value) is int else str(value)


class Binarize(_Part):
    """What turns binary: weights, activations or both, and what stays float."""

    weights: bool
    activations: bool
    keep_float: Annotated[tuple[Pattern, ...], Field(strict=False)]

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.weights or self.activations):
            raise ValueError("nothing would turn binary: set weights, activations or both to true")
        return self


class Gradient(_Part):
    """Which gradient a frozen entry gets: none (STE-free), identity, or clipped to [-1, 1]."""

    frozen: Surrogate


class Refresh(_Part):
    """Soft refresh: in every step 1/rate of a turning site's noise is drawn anew."""

    rate: Annotated[int, Field(ge=1, le=1_000_000)]


class Progression(_Part):
    """When the sites turn binary, and in which portions.

    `depth` is what the orders forward and reverse count by, and `per` what has a mask entry of its own.
    """

    order: Order
    depth: DepthRule = "asap"
    per: Per = "element"
    curve: Curve
    refresh: Refresh
    warmup: DurationField
    tail: DurationField

    @model_validator(mode="after")
    def _room(self) -> Self:
        shares = [duration.amount for duration in (self.warmup, self.tail) if duration.unit == "%"]
        if sum(shares) >= 100:
            raise ValueError("warm-up and tail leave no room for a window")
        return self


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

    @model_validator(mode="after")
    def _something(self) -> Self:
        if all(change is None for name, change in self if name != "sites"):
            raise ValueError("the override changes nothing: give it a curve, a refresh, a gradient, per or levels")
        return self


class ScheduleSpec(_Part):
    """A whole schedule, as `load_spec` reads it from a file."""

    version: Annotated[Literal[1], BeforeValidator(_whole)]
    binarize: Binarize
    gradient: Gradient
    progression: Progression
    overrides: Annotated[tuple[Override, ...], Field(strict=False)] = ()
    seed: Annotated[int, Field(ge=0, lt=2**63)]

    _lines: dict[tuple[str | int, ...], str] = PrivateAttr(default_factory=dict)

    def where(self, *path: str | int) -> str | None:
        """The line of the file that holds a field, as `schedule.yaml:7`; None for a spec that came from no file."""
        return self._lines.get(path)

    def as_data(self) -> dict[str, Any]:
        """The spec as plain data: the same mapping that a file would hold."""
        return self.model_dump(mode="json", exclude_none=True)
