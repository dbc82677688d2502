"""The search spaces that come with the project, by name; free of Optuna so that naming them is cheap."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def shipped_spaces() -> dict[str, Path]:
    """Name → file."""
    files = (file for file in resources.files("search_spaces").iterdir() if file.name.endswith(".yaml"))
    return {file.name.removesuffix(".yaml"): Path(str(file)) for file in sorted(files, key=lambda file: file.name)}
