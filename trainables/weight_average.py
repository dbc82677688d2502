"""The exponential moving average of a network's trained weights, which evaluation uses."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class WeightAverage:
    """Averages what is trained; running statistics of batch norm are not, and stay the network's own.

    Attributes:
        weights: parameter name → average.
    """

    def __init__(self, network: nn.Module) -> None:
        """Start at the network's present weights, and follow that network."""
        trained = {name: value for name, value in network.named_parameters() if value.requires_grad}
        self._trained = [value.detach() for value in trained.values()]  # shares the network's memory
        self.weights = {name: value.detach().clone() for name, value in trained.items()}

    def update(self, decay: float) -> None:
        """Average ← decay · average + (1 − decay) · weights."""
        torch._foreach_lerp_(list(self.weights.values()), self._trained, 1 - decay)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take over saved averages.

        Raises:
            ValueError: if they are of another network.
        """
        shapes = {name: weight.shape for name, weight in self.weights.items()}
        if {name: weight.shape for name, weight in weights.items()} != shapes:
            raise ValueError("the weight average is of another network")
        with torch.no_grad():
            for name, weight in weights.items():
                self.weights[name].copy_(weight)
