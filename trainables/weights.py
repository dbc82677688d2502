"""What is kept while a network trains: the moving average of its weights, the best so far, and the examples' weights.

All of it is part of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables.mentors import SELECTIVE_MENTORS
from trainables.schedules import burn_in_end
from trainables.settings import TrialSettings


class BestWeights:
    """The weights of the epoch with the highest metric so far, the first of equals; empty before any."""

    def __init__(self, metric: str = "val_accuracy") -> None:
        """`metric` is its name in the reports."""
        self._metric = metric
        self.metrics: dict[str, float] = {}
        self.weights: dict[str, Tensor] = {}

    def update(self, metrics: dict[str, float], weights: dict[str, Tensor]) -> None:
        """Copies the weights, on their device, if this epoch's metric is higher than any before."""
        if not self.metrics or metrics[self._metric] > self.metrics[self._metric]:
            self.metrics = dict(metrics)
            self.weights = {name: weight.detach().clone() for name, weight in weights.items()}

    def state_dict(self) -> dict[str, Any]:
        """Returns what `load_state_dict` takes."""
        return {"metrics": self.metrics, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Restores a saved state on `device`."""
        self.metrics = state["metrics"]
        self.weights = {name: weight.to(device) for name, weight in state["weights"].items()}


class ModelEMA:
    """An exponential moving average of the trained weights; batch-norm statistics are not averaged.

    Attributes:
        weights: parameter name → average.
    """

    def __init__(self, network: nn.Module) -> None:
        """Starts at the network's present weights, and follows that network."""
        trained = {name: value for name, value in network.named_parameters() if value.requires_grad}
        self._trained = [value.detach() for value in trained.values()]  # shares the network's memory
        self.weights = {name: value.detach().clone() for name, value in trained.items()}

    def update(self, weight: Tensor) -> None:
        """Average ← average + weight · (trained − average); `weight` is 1 − decay, a scalar on the device."""
        averages = list(self.weights.values())
        if weight.is_cuda:  # few kernels for all tensors; `_foreach_lerp_` has one each if `weight` is a tensor
            differences = torch._foreach_sub(self._trained, averages)
            torch._foreach_mul_(differences, weight)
            torch._foreach_add_(averages, differences)
        else:
            torch._foreach_lerp_(averages, self._trained, [weight] * len(averages))

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Restores saved averages. Raises ValueError if they are of another network."""
        shapes = {name: weight.shape for name, weight in self.weights.items()}
        if {name: weight.shape for name, weight in weights.items()} != shapes:
            raise ValueError("the weight average is of another network")
        with torch.no_grad():
            for name, weight in weights.items():
                self.weights[name].copy_(weight)


class ExampleWeights:
    """The weights that a selective mentor gives the training images after burn-in, averaged for each image."""

    def __init__(self, settings: TrialSettings, images: int, steps: int, device: torch.device) -> None:
        """Starts without any; `steps` are those of the whole trial."""
        self._first_step = burn_in_end(settings.burn_in, steps) if settings.mentor in SELECTIVE_MENTORS else steps
        self._sums = torch.zeros(images, device=device)
        self._counts = torch.zeros(images, device=device)

    def add(self, step: int, batch_index: Tensor, weights: Tensor) -> None:
        """Adds the weights [B] of the images `batch_index` [B] at a step, unless it is one of burn-in."""
        if step >= self._first_step:
            self._sums.index_add_(0, batch_index, weights)
            self._counts.index_add_(0, batch_index, torch.ones_like(weights))

    def mean(self) -> Tensor | None:
        """Returns the mean weight [N] of each image, in [0, 1]; NaN where there is none yet. None without any."""
        return self._sums / self._counts if bool(self._counts.any()) else None

    def state_dict(self) -> dict[str, Tensor]:
        """Returns what `load_state_dict` takes."""
        return {"sums": self._sums, "counts": self._counts}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores a saved state. Raises RuntimeError if it is of another number of images."""
        self._sums.copy_(state["sums"])
        self._counts.copy_(state["counts"])
