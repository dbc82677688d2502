"""Browser tests take a chromium and minutes: `make test-browser` runs them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = shutil.which("chromium")


def why_not() -> str:
    """Why browser tests are left out here, or nothing."""
    if CHROMIUM is None:
        return "there is no chromium on this machine"
    return "" if os.environ.get("BROWSER_TESTS") else "they take minutes: make test-browser"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A chromium without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
