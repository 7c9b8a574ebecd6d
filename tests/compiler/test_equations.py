from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from frostline.compiler.equations import plain


@st.composite
def equations(draw: st.DrawFn) -> tuple[str, str, str, str]:
    """The letters of a plain product in any order: activation, weight, result, and those that are summed."""
    letters = draw(st.permutations("abcdefg"))
    sizes = draw(st.integers(0, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    kept, summed, outputs = (letters[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(3))
    terms = ["".join(draw(st.permutations(term))) for term in (kept + summed, outputs + summed, kept + outputs)]
    return terms[0], terms[1], terms[2], "".join(summed)


@given(equations(), st.booleans())
def test_a_plain_product_is_a_linear_one_with_its_axes_in_another_order(
    terms: tuple[str, str, str, str], weight_first: bool
) -> None:
    activation, weight, result, summed = terms
    sizes = dict(zip("abcdefg", (2, 3, 4, 5, 2, 3, 4), strict=True))
    x, w = (torch.randn([sizes[letter] for letter in term]) for term in (activation, weight))
    operands = ((weight, w), (activation, x)) if weight_first else ((activation, x), (weight, w))
    equation = ",".join(letters for letters, _ in operands) + "->" + result
    form = plain(equation, (operands[0][1].dim(), operands[1][1].dim()), weight_first)
    assert form is not None
    assert (form.summed, form.outputs) == (len(summed), len(weight) - len(summed))
    rows = x.permute(form.activation).flatten(-form.summed)
    matrix = w.permute(form.weight)
    columns = matrix.flatten(form.outputs).flatten(0, form.outputs - 1)
    product = torch.nn.functional.linear(rows, columns).unflatten(-1, matrix.shape[: form.outputs])
    expected = torch.einsum(equation, *(value for _, value in operands))
    assert torch.allclose(product.permute(form.result), expected, atol=1e-4)


def test_an_ellipsis_and_an_equation_without_arrow_are_written_out() -> None:
    form = plain("...i, oi -> ...o", (4, 2), weight_first=False)
    assert form is not None
    assert (form.activation, form.weight, form.result) == ((0, 1, 2, 3), (0, 1), (0, 1, 2, 3))
    assert plain("bi,io", (2, 2), weight_first=False) == plain("bi,io->bo", (2, 2), weight_first=False)


@pytest.mark.parametrize(
    ("equation", "ranks"),
    [
        ("bi,bio->bo", (2, 3)),  # a weight for each sample
        ("bti,oi->bo", (3, 2)),  # a sum over an axis of the activation alone
        ("bi,oi->b", (2, 2)),  # a sum over the outputs
        ("bi,jo->bijo", (2, 2)),  # nothing is summed
        ("bii,oi->bo", (3, 2)),  # a diagonal
        ("...i,...io->...o", (3, 4)),  # a weight for each of the axes before
    ],
)
def test_other_equations_are_none(equation: str, ranks: tuple[int, int]) -> None:
    assert plain(equation, ranks, weight_first=False) is None
