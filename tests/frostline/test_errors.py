from __future__ import annotations

from frostline import errors
from frostline.errors import FrostlineError, Offence, nearest


def test_an_error_shows_every_offence_with_its_line_and_remedy() -> None:
    error = FrostlineError("two things", [Offence("one", "a.py:1", "do this"), Offence("two")])
    assert str(error) == "two things\n  a.py:1: one\n    -> do this\n  two"


def test_a_remedy_that_several_have_in_a_row_is_given_once() -> None:
    offences = [Offence("a", remedy="x"), Offence("b", remedy="x"), Offence("c", remedy="y"), Offence("d", remedy="x")]
    assert str(FrostlineError("four", offences)) == "four\n  a\n  b\n    -> x\n  c\n    -> y\n  d\n    -> x"
    assert [offence.remedy for offence in FrostlineError("four", offences).offences] == ["x", "x", "y", "x"]


def test_every_kind_of_error_has_an_exit_code_of_its_own() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FrostlineError)]
    codes = [kind.exit_code for kind in kinds]
    assert len(kinds) == 10
    assert len(set(codes)) == len(codes)
    assert 0 not in codes


def test_the_nearest_names() -> None:
    assert nearest("frist", ["first", "last"]) == 'did you mean "first"?'
    assert nearest("zzz", ["first", "last"]) is None


def test_a_message_shows_the_first_of_very_many_offences_and_keeps_them_all() -> None:
    error = FrostlineError("many", [Offence("x" * 1000)] * 100)
    assert len(error.offences) == 100
    assert str(error).splitlines()[-1] == "  and 70 more"
    assert len(str(error)) < 30 * 700


def test_a_message_steers_no_terminal() -> None:
    assert str(FrostlineError("a\x1b[2J", [Offence("\ud800\u202e")])) == "a\\x1b[2J\n  \\ud800\\u202e"
