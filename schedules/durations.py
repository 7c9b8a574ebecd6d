"""Durations: how long something lasts, in steps, in epochs, or as a share of the budget."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import GetPydanticSchema
from pydantic_core import core_schema

_FORM = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) *(%|steps?|epochs?)")
_MEANT = 'a duration is a number of steps (500), of epochs ("3 epochs") or a share of the budget ("5%")'


@dataclass(frozen=True)
class Duration:
    """An exact amount of steps, of epochs, or of per cent of the budget.

    >>> Duration.parse("5%").steps(total_steps=410, steps_per_epoch=None)
    21
    >>> Duration.parse("1.5 epochs").steps(total_steps=1000, steps_per_epoch=21)
    32
    """

    amount: Fraction
    unit: Literal["steps", "epochs", "%"]

    @classmethod
    def parse(cls, value: object) -> Duration:
        """Read what a spec says. Raises ValueError for anything that is no duration."""
        if isinstance(value, Duration):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            if not 0 <= value < 10**9:
                raise ValueError(f"must not be negative, nor a billion or more; {_MEANT}")
            return cls(Fraction(value), "steps")
        match = _FORM.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None:
            raise ValueError(_MEANT)
        amount, unit = Fraction(match[1]), match[2]
        if unit == "%":
            if amount > 100:
                raise ValueError("a share cannot exceed 100%")
            return cls(amount, "%")
        if unit.startswith("epoch"):
            return cls(amount, "epochs")
        if amount.denominator != 1:
            raise ValueError("a number of steps is a whole number")
        return cls(amount, "steps")

    def steps(self, total_steps: int, steps_per_epoch: int | None) -> int:
        """The duration in optimizer steps, rounded to the nearest, halves upwards.

        Raises ValueError where the duration is in epochs and the length of an epoch is not known.
        """
        if self.unit == "steps":
            exact = self.amount
        elif self.unit == "%":
            exact = self.amount * total_steps / 100
        elif steps_per_epoch is None:
            raise ValueError(f'"{self}" needs steps_per_epoch')
        else:
            exact = self.amount * steps_per_epoch
        return (exact + Fraction(1, 2)).__floor__()

    def __str__(self) -> str:
        number = f"{Decimal(self.amount.numerator) / Decimal(self.amount.denominator):f}"
        return f"{number}%" if self.unit == "%" else f"{number} {self.unit}"


def _schema(_source: Any, _handler: Any) -> core_schema.CoreSchema:
    described: core_schema.CoreSchema = core_schema.union_schema(
        [
            core_schema.int_schema(ge=0, lt=10**9),
            core_schema.str_schema(pattern=rf"^\s*{_FORM.pattern}\s*$"),
        ]
    )
    return core_schema.json_or_python_schema(
        json_schema=core_schema.no_info_before_validator_function(Duration.parse, described),
        python_schema=core_schema.no_info_plain_validator_function(Duration.parse),
        serialization=core_schema.plain_serializer_function_ser_schema(str),
    )


DurationField = Annotated[Duration, GetPydanticSchema(_schema)]
