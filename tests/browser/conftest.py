"""Browser tests take a chromium and minutes: `make test-browser` runs them."""

from __future__ import annotations

import os
import shutil

CHROMIUM = shutil.which("chromium")


def why_not() -> str:
    """Why browser tests are left out here, or nothing."""
    if CHROMIUM is None:
        return "there is no chromium on this machine"
    return "" if os.environ.get("BROWSER_TESTS") else "they take minutes: make test-browser"
