"""What all parts of a spec have in common: plain, frozen values, described for editors."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


def _for_editors(schema: dict[str, Any]) -> None:
    """An editor shows a sentence, not a page: a part's first paragraph, and the same for the word that chooses it."""
    sentence = " ".join(schema["description"].split("\n\n")[0].split())
    schema["description"] = sentence
    if "kind" in schema["properties"]:
        schema["properties"]["kind"]["description"] = sentence


class Part(BaseModel):
    """A part of a spec. The text below a field is what an editor shows for it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, json_schema_extra=_for_editors
    )
