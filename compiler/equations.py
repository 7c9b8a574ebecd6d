"""The equations of `einsum`, and which of them are a plain product of an activation and a weight."""

from __future__ import annotations

import string
from dataclasses import dataclass


@dataclass(frozen=True)
class Plain:
    """`linear` with its operands and its result rearranged.

    `activation` is the order of the activation's axes that puts the `summed` ones last, `weight` the order that puts
    the weight's `outputs` first and its summed axes last, and `result` the order of the result's axes.
    """

    activation: tuple[int, ...]
    weight: tuple[int, ...]
    result: tuple[int, ...]
    summed: int
    outputs: int


def plain(equation: str, ranks: tuple[int, int], weight_first: bool) -> Plain | None:
    """How an equation of two operands of these ranks is a plain product, or None where it is none.

    It is one where every letter stands in exactly two of activation, weight and result.

    >>> plain("bti,oi->bot", (3, 2), weight_first=False)
    Plain(activation=(0, 1, 2), weight=(0, 1), result=(0, 2, 1), summed=1, outputs=1)
    >>> plain("bi,bio->bo", (2, 3), weight_first=False) is None
    True
    """
    terms, result = letters(equation, ranks)
    activation, weight = terms[::-1] if weight_first else terms
    summed = [letter for letter in weight if letter in activation]
    outputs = [letter for letter in weight if letter not in activation]
    kept = [letter for letter in activation if letter not in summed]
    once = all(len(set(term)) == len(term) for term in (activation, weight, result))
    if not once or not summed or not outputs or sorted(result) != sorted(kept + outputs):
        return None
    order = kept + outputs
    return Plain(
        tuple(map(activation.index, kept + summed)),
        tuple(map(weight.index, outputs + summed)),
        tuple(map(order.index, result)),
        len(summed),
        len(outputs),
    )


def letters(equation: str, ranks: tuple[int, int]) -> tuple[tuple[str, str], str]:
    """The letters of both operands, and of the result; an ellipsis becomes letters that are not in use."""
    left, arrow, result = equation.replace(" ", "").partition("->")
    first, second = left.split(",")
    free = [letter for letter in string.ascii_letters if letter not in equation]
    dots = max(
        (
            rank - len(term.replace("...", ""))
            for term, rank in zip((first, second), ranks, strict=True)
            if "..." in term
        ),
        default=0,
    )
    if not arrow:
        letters = left.replace(",", "").replace("...", "")
        result = "..." + "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    terms = [
        term.replace("...", "".join(free[dots - (rank - len(term) + 3) : dots]))
        for term, rank in zip((first, second), ranks, strict=True)
    ]
    return (terms[0], terms[1]), result.replace("...", "".join(free[:dots]))
