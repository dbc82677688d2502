"""Keeps the weights of a trial's best epoch beside its latest: where noise is memorised late, they differ."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class BestEpoch:
    """The epoch with the highest validation accuracy so far, the first of equals; empty before any."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.weights: dict[str, Tensor] = {}

    def note(self, metrics: dict[str, float], weights: dict[str, Tensor]) -> None:
        """Copy the weights, which stay on their device, if this epoch is better than all before it.

        Args:
            metrics: `Trainer.train_epoch`'s, with `val_accuracy`.
            weights: as evaluation uses them; they may share memory with the network.
        """
        if not self.metrics or metrics["val_accuracy"] > self.metrics["val_accuracy"]:
            self.metrics = dict(metrics)
            self.weights = {name: weight.detach().clone() for name, weight in weights.items()}

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes."""
        return {"metrics": self.metrics, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any], like: dict[str, Tensor]) -> None:
        """Go on from a saved state, on the device that `like` is on."""
        self.metrics = state["metrics"]
        self.weights = {name: weight.to(like[name].device) for name, weight in state["weights"].items()}
