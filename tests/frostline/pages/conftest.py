from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest

Open = Callable[..., Any]

ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A real browser without a window."""
    found = which("chromium") or which("chromium-browser")
    if found is None:
        pytest.skip("needs chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Open]:
    """Open a file in the browser; in the end there was no message on the console and no request but for the file."""
    told: list[str] = []
    pages = []

    def page_of(path: Path, scheme: str = "light") -> Any:
        page = browser.new_page(color_scheme=scheme, viewport={"width": 1280, "height": 900})
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda request: None if request.url == path.as_uri() else told.append(request.url))
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield page_of
    for page in pages:
        page.close()
    assert told == []
