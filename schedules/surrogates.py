"""The surrogates: the gradient that a frozen entry gets, in place of binarize's, which is 0 almost everywhere.

A surrogate is a value. Its `slope` is a function of `v`, the entry on a scale where its two levels are -1 and 1, and
stands in for binarize's own. It is written with methods that tensors have, so that a spec needs no torch. The kind
`none` has no stand-in: this is the STE-free regime of StoMPP (arXiv 2606.27759), in which gradient flows through the
entries that are not frozen, and through those only.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
)

from frostline.schedules.curves import Curve
from frostline.schedules.part import Part

Amount = Annotated[float, Field(ge=0.1, le=1000, allow_inf_nan=False)]


class Rise(Part):
    """A sharpness that goes from `start` to `stop` along a curve, over the whole budget.

    >>> from frostline.schedules.curves import Linear
    >>> Rise(start=1, stop=3, curve=Linear(kind="linear")).at(0.25)
    1.5
    """

    start: Amount
    """The sharpness in the first step."""
    stop: Amount
    """The sharpness in the last step."""
    curve: Curve
    """The way from the one to the other."""

    def at(self, t: float) -> float:
        return self.start + (self.stop - self.start) * self.curve.fraction(t)

    def __str__(self) -> str:
        return f"{self.start:g} to {self.stop:g} ({self.curve})"


Sharpness = Annotated[
    Annotated[Amount, Tag("number")] | Annotated[Rise, Tag("rise")],
    Discriminator(lambda value: "rise" if isinstance(value, dict | Rise) else "number"),
]


class _Surrogate(Part):
    def slope(self, v: Any, sharpness: Any) -> Any:
        """What stands in for binarize's slope at `v`, in its shape; `sharpness` is one number."""
        return v.new_zeros(()).expand_as(v)

    def sharpness_at(self, t: float) -> float | None:
        """The sharpness when a share `t` of the budget is done; None for a surrogate that has none."""
        sharpness: float | Rise | None = getattr(self, "sharpness", None)
        return sharpness.at(t) if isinstance(sharpness, Rise) else sharpness

    @model_serializer(mode="wrap")
    def _as_word(self, handler: SerializerFunctionWrapHandler) -> Any:
        """Where the kind says it all, the kind: `frozen: clipped`."""
        data = handler(self)
        return data["kind"] if len(data) == 1 else data

    def __str__(self) -> str:
        sharpness: float | Rise | None = getattr(self, "sharpness", None)
        shown = f"{sharpness:g}" if isinstance(sharpness, float) else sharpness
        kind: str = vars(self)["kind"]
        return kind if sharpness is None else f"{kind}, sharpness {shown}"


class NoSurrogate(_Surrogate):
    """No gradient: a frozen entry stops it. StoMPP, STE-free (arXiv 2606.27759)."""

    kind: Literal["none"]


class Identity(_Surrogate):
    """1: the straight-through estimator (Bengio et al., arXiv 1308.3432), the paper's vanilla STE.

    Beyond abs(v) = 10,000 it is 0, so that what is infinite makes no NaN.
    """

    kind: Literal["identity"]

    def slope(self, v: Any, sharpness: Any) -> Any:
        return (v.abs() <= 1e4).to(v.dtype)


class Clipped(_Surrogate):
    """1 for abs(v) <= 1, else 0: the gradient of hard tanh (Courbariaux et al., arXiv 1602.02830)."""

    kind: Literal["clipped"]

    def slope(self, v: Any, sharpness: Any) -> Any:
        return (v.abs() <= 1).to(v.dtype)


class Polynomial(_Surrogate):
    """2 - 2 abs(v) for abs(v) <= 1, else 0: Bi-Real Net's piecewise polynomial (Liu et al., arXiv 1808.00278)."""

    kind: Literal["polynomial"]

    def slope(self, v: Any, sharpness: Any) -> Any:
        return (2 - 2 * v.abs()).clamp(min=0.0)


class Tanh(_Surrogate):
    """max(1, s) (1 - tanh(s v)^2), for the sharpness s: IR-Net's error decay estimator (Qin et al., arXiv 1909.10788).

    Below 1 it is near to identity and at large s near to binarize's own; IR-Net lets s grow from 0.1 to 10.
    """

    kind: Literal["tanh"]
    sharpness: Sharpness
    """A number, or one that rises over the whole budget; IR-Net's goes from 0.1 to 10."""

    def slope(self, v: Any, sharpness: Any) -> Any:
        return (1 - (v * sharpness).tanh().square()) * sharpness.clamp(min=1.0)


class Reste(_Surrogate):
    """abs(v)^(1/o - 1) / o for 0.1 < abs(v) <= 1.5, for the sharpness o: ReSTE (Wu et al., arXiv 2308.06689).

    Nearer to 0 it is 0.1^(1/o - 1), the slope of the chord, and beyond 1.5 it is 0. At o = 1 it is clipped identity;
    ReSTE lets o grow from 1 to 3.
    """

    kind: Literal["reste"]
    sharpness: Sharpness
    """A number, or one that rises over the whole budget; ReSTE's goes from 1 to 3."""

    def slope(self, v: Any, sharpness: Any) -> Any:
        size = v.abs()
        power = size.clamp(0.1, 1.5) ** (1 / sharpness - 1)
        return power * (1 / sharpness).where(size > 0.1, 1.0) * (size <= 1.5)


def _spelled(value: object) -> object:
    """`clipped` is short for `{kind: clipped}`."""
    return {"kind": value} if isinstance(value, str) else value


_Union = Annotated[
    NoSurrogate | Identity | Clipped | Polynomial | Tanh | Reste,
    Field(discriminator="kind"),
]
_Word = Literal["none", "identity", "clipped", "polynomial"]

Surrogate = Annotated[_Union, BeforeValidator(_spelled, json_schema_input_type=_Word | _Union)]
"""A surrogate as a spec gives it: a word, or a mapping where it takes a sharpness."""
