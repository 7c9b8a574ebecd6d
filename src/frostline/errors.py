"""Every error that frostline raises: one tree, each with the user's own line and what to do.

```
FrostlineError
  UsageError        a command or a call was given something that it cannot use
  SpecError         the schedule spec is not valid
  CaptureError      no front end could capture the model faithfully
  PlanError         the spec and the model, or the budget, do not fit together
  PassError         the graph is not in the state that a pass needs
  CheckpointError   a checkpoint is damaged, or belongs to something else
  FileError         a file cannot be written or read, or is not ours
  LoweringError     a target cannot express something that the graph contains
  DriftError        the written file does not compute what the graph computes
```
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import zip_longest
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pydantic import ValidationError

_MOST = 30
"""The offences that a message shows: it fits on a screen, whatever a file holds."""
_LONGEST = 600
"""The characters of one of them."""


@dataclass(frozen=True)
class Offence:
    """One thing that is wrong.

    `where` is a line of the user's own text, such as `schedule.yaml:7` or `model.py:31`.
    """

    what: str
    where: str | None = None
    remedy: str | None = None

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        remedy = f"\n    -> {self.remedy}" if self.remedy else ""
        what = self.what if len(self.what) <= _LONGEST else f"{self.what[:_LONGEST]} ..."
        return f"  {place}{what}{remedy}"


class FrostlineError(Exception):
    """What went wrong, with every offence at once; of very many, the message shows the first.

    A remedy that several in a row have stands once, after the last of them.

    >>> offences = [Offence("unknown key", f"a.yaml:{line}", "remove it") for line in (3, 5)]
    >>> print(FrostlineError("the spec is not valid", offences))
    the spec is not valid
      a.yaml:3: unknown key
      a.yaml:5: unknown key
        -> remove it
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, headline: str, offences: Iterable[Offence] = ()) -> None:
        self.headline = headline
        self.offences = tuple(offences)
        more = [f"  and {len(self.offences) - _MOST:,} more"] * (len(self.offences) > _MOST)
        super().__init__(printable("\n".join([headline, *_told(self.offences[:_MOST]), *more])))


def _told(offences: Sequence[Offence]) -> Iterator[str]:
    """Each offence as text; of neighbours with one remedy, the last alone gives it."""
    for offence, following in zip_longest(offences, offences[1:]):
        again = following is not None and following.remedy == offence.remedy
        yield str(replace(offence, remedy=None) if again else offence)


class UsageError(FrostlineError):
    """A command or a call was given something that it cannot use."""

    exit_code = 2


class SpecError(FrostlineError):
    """The schedule spec is not valid."""

    exit_code = 3


class CaptureError(FrostlineError):
    """No front end could capture the model faithfully."""

    exit_code = 4


class PlanError(FrostlineError):
    """The spec and the model, or the budget, do not fit together."""

    exit_code = 5


class PassError(FrostlineError):
    """The graph is not in the state that a pass requires, or ensures."""

    exit_code = 6


class CheckpointError(FrostlineError):
    """A checkpoint is damaged, or belongs to another model or spec."""

    exit_code = 7


class FileError(FrostlineError):
    """A file cannot be written or read, or is not one of ours."""

    exit_code = 8


class LoweringError(FrostlineError):
    """A target cannot express something that the graph contains."""

    exit_code = 9


class DriftError(FrostlineError):
    """The written file does not compute what the graph computes."""

    exit_code = 10


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The remedy for a word that is not known: the names that come closest, if any does.

    >>> nearest("refesh", ["refresh", "curve"])
    'did you mean "refresh"?'
    """
    close = get_close_matches(word, list(known), n=3, cutoff=0.5)
    quoted = " or ".join(f'"{name}"' for name in close)
    return f"did you mean {quoted}?" if close else None


def offences_of(error: ValidationError, remedy: str | None = None) -> list[Offence]:
    """What is wrong with the fields of a file that has a form of its own, such as a certificate."""
    faults = error.errors(include_url=False, include_input=False)
    places = (".".join(map(str, fault["loc"])) or "it" for fault in faults)
    return [Offence(f"{place}: {fault['msg']}", None, remedy) for place, fault in zip(places, faults, strict=True)]


def printable(text: str) -> str:
    """A text without what steers a terminal, or has no encoding: names come from files that others wrote.

    >>> print(printable("a\\x1b[2Jb\\ud800"))
    a\\x1b[2Jb\\ud800
    """
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its kind where it says nothing.

    >>> first_line(ValueError("\\nno such thing\\nat all")), first_line(ValueError())
    ('no such thing', 'ValueError')
    """
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
