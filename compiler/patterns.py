"""Patterns: which sites and operands a word of the spec names, and the offence of a word that names none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from frostline.compiler.sites import Operand, Site
from frostline.errors import Offence, nearest
from frostline.schedules import ROLES


def keeps(word: str, operand: Operand) -> bool:
    return word in operand.roles if word in ROLES else fnmatchcase(operand.name, word)


def matches(pattern: str, site: Site) -> bool:
    return any(fnmatchcase(name, pattern) for name in (site.name, *(operand.name for operand in site.operands)))


def matches_nothing(pattern: str, names: Iterable[str], where: str | None, kind: str = "site") -> Offence:
    known = list(dict.fromkeys(names))
    near = nearest(pattern, known) or nearest(pattern.strip("*.?"), known)
    few = ", ".join(known[:6]) + (", ..." if len(known) > 6 else "")
    return Offence(f'"{pattern}" matches no {kind}', where, near or f"there are: {few}")


def matches_no_binary(pattern: str, binary: Sequence[Site], sites: Sequence[Site], where: str | None) -> Offence:
    """The offence of a pattern that no turning site matches: there is none of that name, or it stays float."""
    if any(matches(pattern, site) for site in sites):
        return Offence(f'every site that "{pattern}" matches stays float', where, "remove it, or keep fewer float")
    return matches_nothing(pattern, (site.name for site in binary), where)
