"""The site that mkdocs builds of docs/: whole, strict, and without anything from elsewhere."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import frostline as fl

pytest.importorskip("material", reason="pip install 'frostline[docs]'")

FETCHING = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "object": "data"}


class Fetched(HTMLParser):
    """What a page makes a browser fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name == FETCHING.get(tag)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(  # noqa: S603
        command, check=False, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_document_is_a_page_of_the_navigation(site: Path) -> None:
    home = (site / "index.html").read_text()
    for path in Path("docs").glob("*.md"):
        address = "." if path.stem == "index" else f"{path.stem}/"
        assert (site / address / "index.html").is_file(), path
        assert re.search(rf'<a href="{re.escape(address)}" class="md-nav__link', home), path


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        fetched = Fetched(page.read_text()).addresses
        assert fetched, page
        assert not [address for address in fetched if re.match(r"(https?:)?//", address)], page
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", style.read_text()), style


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    page = (site / "reference" / "index.html").read_text()
    for name in fl.__all__:
        value = getattr(fl, name)
        home = re.escape(f"{value.__module__}.{value.__qualname__}")
        assert re.search(rf'<h\d id="{home}"', page), name


def test_the_reference_of_specs_is_that_of_the_schema(site: Path) -> None:
    page = runpy.run_path("docs/spec_reference.py")["page"]
    schema = json.loads(Path("schedules/schema.json").read_text())
    assert Path("docs/spec-reference.md").read_text() == page(schema), "python docs/spec_reference.py renews it"
    built = (site / "spec-reference" / "index.html").read_text()
    for name, definition in schema["$defs"].items():
        assert f'<h2 id="{name.lower()}">' in built
        assert all(f"<code>{field}</code>" in built for field in definition["properties"])
