"""A hook of mkdocs: what pages say of files outside of docs/, which a site does not hold, stays as words.

`[killed](../tests/faults/test_kills.py)` is a link where the repository is read, and "killed" on the site.
"""

from __future__ import annotations

import re

_OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\(\.\./[^)]+\)")


def on_page_markdown(markdown: str, **_: object) -> str:
    """The page without links that lead out of docs/."""
    return _OUTSIDE.sub(r"\1", markdown)
