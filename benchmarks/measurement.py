"""Alternates the contestants of a benchmark, and records its figures with the machine and the versions."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import torch

PACKAGES = ("torch", "torchvision", "numpy", "ray", "optuna")


def alternate(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run every contestant once a round, forwards and backwards in turn, so that drift of the machine hits all alike.

    Args:
        contestants: name → a function that runs once and returns its own figure.
        rounds: how often each is run and counted; one round before them warms up.

    Returns:
        Name → its figures, one a round.
    """
    figures: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name in sorted(contestants, reverse=number % 2 == 1):
            figure = contestants[name]()
            if number > 0:
                figures[name].append(figure)
    return figures


def median_of_ratios(numerators: list[float], denominators: list[float]) -> float:
    """The median over rounds of one contestant's figure by another's in the same round."""
    return median(a / b for a, b in zip(numerators, denominators, strict=True))


def machine(device: torch.device) -> dict[str, Any]:
    """The hardware as far as it matters for speed."""
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }


def write_result(
    path: Path,
    benchmark: str,
    device: torch.device,
    rounds: int,
    rows: list[dict[str, Any]],
    ratios: dict[str, float],
) -> None:
    """Write one benchmark's result as JSON.

    Args:
        path: the file; its folder must exist.
        benchmark: the script's name.
        device: what it ran on.
        rounds: n, how many figures each median is over.
        rows: the table.
        ratios: name → median.
    """
    result = {
        "benchmark": benchmark,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(device),
        "versions": {
            "python": platform.python_version(),
            **{package: metadata.version(package) for package in PACKAGES},
        },
        "n": rounds,
        "rows": rows,
        "ratios": ratios,
    }
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _processor() -> str:
    """The processor's name where Linux reports it, else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    names = (
        [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if cpuinfo.exists()
        else []
    )
    return names[0].partition(":")[2].strip() if names else platform.machine()
