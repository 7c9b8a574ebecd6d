"""From facts to a page: one file of HTML with its own style and a few lines of script, and nothing from the network."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from frostline.amounts import rounded, share, size
from frostline.compiler.files import replacing


def write_page(template: str, path: str | Path, **facts: Any) -> None:
    """Fill a template with facts and write it. Raises FileError where it cannot be written."""
    text = _templates().get_template(template).render(facts)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


@cache
def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("frostline.pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    found.filters.update(share=share, size=size, rounded=rounded)
    return found
