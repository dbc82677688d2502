"""The MentorMix loss of one batch, steps 1 to 7, and the moving averages it carries along.

It applies the tensor functions of `trainables.step` to the network. The optimizer is in `trainables.training`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainables import step as algorithm
from trainables.device import autocast
from trainables.mentors import MENTORS
from trainables.models import RunningStatistics
from trainables.schedules import percent_done, weighting_start
from trainables.settings import TrialSettings


class BatchLoss(NamedTuple):
    """Loss and weights of one batch."""

    loss: Tensor  # scalar, to be minimized
    weights: Tensor  # [B] in [0, 1], of the examples (step 3)


class MentorMixObjective:
    """The MentorMix loss of a network, batch by batch; reads no tensor on the host.

    Plain mixup with the mentor `uniform`, and plain training with `mixup_alpha` 0 as well.
    """

    def __init__(
        self, settings: TrialSettings, network: nn.Module, num_classes: int, steps: int, generator: torch.Generator
    ) -> None:
        """Starts at step 0 of `steps`, those of the whole trial.

        `network` maps [B, C, H, W] to logits [B, K] and must be in training mode at every call; `generator`, on the
        network's device, draws partners and mixing coefficients.
        """
        self._settings = settings
        self._network = network
        self._num_classes = num_classes
        self._steps = steps
        self._generator = generator
        self._mentor = MENTORS[settings.mentor]
        self._weighting_start = weighting_start(settings.burn_in, steps)
        self._autocast = autocast(settings.precision, generator.device)
        self._running_statistics = RunningStatistics(network)
        # The moving averages of the percentile loss, of the examples (γ1) and of their mixtures (γ2).
        self._loss_average = torch.zeros((), device=generator.device)
        self._mixed_loss_average = torch.zeros((), device=generator.device)

    def __call__(self, step: int, images: Tensor, labels: Tensor) -> BatchLoss:
        """Returns the loss of a batch; gradients flow through the pass over its mixtures, which records statistics.

        Args:
            step: 0 … steps − 1, each once and in order.
            images: [B, C, H, W] float.
            labels: [B] int64.
        """
        settings = self._settings
        percent = torch.full((), percent_done(step, self._steps), device=images.device)
        weights = self._first_pass_weights(step, percent, images, labels)  # 1 to 3

        soft_labels = algorithm.one_hot(labels, self._num_classes)
        if settings.mixup_alpha > 0:  # 4 and 5
            partner_index = algorithm.sample_partners(weights, settings.partner_temperature, self._generator)
            beta_samples = algorithm.sample_beta(settings.mixup_alpha, weights, self._generator)
            coefficients = algorithm.mixing_coefficients(beta_samples, weights, settings.mixing)
            images = algorithm.mix(images, partner_index, coefficients)
            soft_labels = algorithm.mix(soft_labels, partner_index, coefficients)

        losses = algorithm.soft_cross_entropy(self._logits(images), soft_labels)  # 6
        if settings.second_reweight:  # 7
            losses = losses * self._example_weights(self._mixed_loss_average, percent, losses.detach())
        return BatchLoss(losses.mean(), weights)

    def state_dict(self) -> dict[str, Any]:
        """Returns the moving averages and the generator's state."""
        return {
            "loss_average": self._loss_average,
            "mixed_loss_average": self._mixed_loss_average,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a saved state. Raises KeyError or RuntimeError if it is of another kind of objective."""
        self._loss_average.copy_(state["loss_average"])
        self._mixed_loss_average.copy_(state["mixed_loss_average"])
        self._generator.set_state(state["generator"])

    def _first_pass_weights(self, step: int, percent: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Steps 1 to 3; weights of 1, without the pass, if they do not depend on the losses.

        That is so with the mentor `uniform`, and in burn-in except its last steps, which warm the moving average up.
        """
        if step < self._weighting_start or self._settings.mentor == "uniform":
            return torch.ones(len(labels), device=labels.device)
        with torch.no_grad(), self._running_statistics.frozen():
            losses = cross_entropy(self._logits(images), labels, reduction="none")
        return self._example_weights(self._loss_average, percent, losses)

    def _logits(self, images: Tensor) -> Tensor:
        """Returns the logits of the network in the trial's precision, as float32."""
        with self._autocast:
            return self._network(images).float()  # type: ignore[no-any-return]

    def _example_weights(self, average: Tensor, percent: Tensor, losses: Tensor) -> Tensor:
        """Updates `average` in place with the losses, and returns their weights."""
        percentile = algorithm.percentile_loss(losses, self._settings.loss_p_percentile)
        average.copy_(algorithm.update_average(average, percentile))
        return algorithm.example_weights(self._mentor, losses, average, percent, self._settings.burn_in)
