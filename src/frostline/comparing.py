"""What two plans of one model do differently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from frostline.compiler.plan import Plan, Turn
from frostline.compiler.plan_text import gradient_of, levels_of
from frostline.schedules import fields_of


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same: a field of the spec, or a site; what it is in the one plan, and in the other."""

    what: str
    one: str
    other: str


@dataclass(frozen=True)
class Comparison:
    """All that two plans do differently; its text form is a table. `alike` counts the sites that turn alike."""

    fields: tuple[Difference, ...]
    windows: tuple[Difference, ...]
    sites: tuple[Difference, ...]
    alike: int

    def __str__(self) -> str:
        if not (self.fields or self.windows or self.sites):
            return f"the other plan is the same: {self.alike} sites turn alike"
        parts = [("spec", self.fields), ("windows", self.windows), ("sites", self.sites)]
        lines = [f"against the other plan: {len(self.sites)} sites turn otherwise, {self.alike} alike"]
        for title, rows in parts:
            if rows:
                wide = [max(len(title), *(len(row.what) for row in rows)), max(4, *(len(row.one) for row in rows))]
                lines += ["", f"{title:<{wide[0]}}  {'here':<{wide[1]}}  there"]
                lines += [f"{row.what:<{wide[0]}}  {row.one:<{wide[1]}}  {row.other}" for row in rows]
        return "\n".join(lines)


def compare(one: Plan, other: Plan) -> Comparison:
    """Compare two plans of one model: fields of their specs, windows, and sites by what becomes of them."""
    here, there = ({turn.site.name: turn for turn in plan.turns} for plan in (one, other))
    names = list(dict.fromkeys([*here, *there]))
    sites = []
    for name in names:
        a, b = _becomes(here.get(name)), _becomes(there.get(name))
        if a != b:  # all of it where one stays float, else what differs
            shown = [key for key in {**a, **b} if not (a and b) or a.get(key) != b.get(key)]
            sites.append(Difference(name, _listed(a, shown), _listed(b, shown)))
    windows = _by_label(one), _by_label(other)
    return Comparison(
        tuple(_differing(_flat(one), _flat(other))), tuple(_differing(*windows)), tuple(sites), len(names) - len(sites)
    )


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> Iterator[Difference]:
    for key in dict.fromkeys([*one, *other]):
        if one.get(key) != other.get(key):
            yield Difference(key, one.get(key, "-"), other.get(key, "-"))


def _becomes(turn: Turn | None) -> dict[str, str]:
    """What becomes of a site, one thing after the other; nothing where it stays float."""
    if turn is None:
        return {}
    return {
        "window": f"[{turn.start}, {turn.stop})",
        "curve": f"curve {turn.curve}",
        "mask": "ramp" if turn.transition == "sharpen" else f"mask per {turn.per}",
        "refresh": f"refresh 1/{turn.refresh}" if turn.refresh else "no refresh",
        "gradient": f"gradient {gradient_of(turn.gradient)}",
        "levels": f"to {levels_of(turn.levels)}",
        "scale": f"scale {turn.scale}",
    }


def _listed(parts: Mapping[str, str], keys: Sequence[str]) -> str:
    return ", ".join(parts[key] for key in keys if key in parts) or "float"


def _by_label(plan: Plan) -> dict[str, str]:
    return {window.label: f"[{window.start}, {window.stop})" for window in plan.windows}


def _flat(plan: Plan) -> dict[str, str]:
    """The fields of a spec by their dotted names, and the budget."""
    data = plan.spec.as_data()
    for index, override in enumerate(data.pop("overrides", [])):
        data[f"overrides[{index}]"] = override
    return {**{name: str(value) for name, value in fields_of(data)}, "steps": str(plan.total_steps)}
