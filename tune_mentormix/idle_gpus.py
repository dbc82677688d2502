"""Says it where trials hold GPUs that they do not use: torch finds none on their node, and they train on its CPU."""

from __future__ import annotations

from typing import Any

from ray.tune import Callback

from tune_mentormix.console import print_note


class IdleGpus(Callback):
    """Looks at where each trial trains, and names a node once."""

    def __init__(self) -> None:
        self._named: set[str] = set()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial reports."""
        node = result["hostname"]
        if result.get("device") == "cpu" and node not in self._named:
            self._named.add(node)
            print_note(
                f"trials on {node} hold GPUs and train on the CPU, since torch finds no GPU there: is its driver too "
                "old, or its torch one without CUDA?"
            )
