"""The MentorMix loss of one batch, steps 1 to 7, and the moving averages it carries along.

It applies the tensor functions of `trainables.step` to the network. The optimizer is in `trainables.optimizers`.
What changes from step to step is first drawn on the device or written to it. The rest is the same for every step of a
phase, burn-in or weighting, so that it can be compiled, or captured in a CUDA graph.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainables import step as algorithm
from trainables.device import autocast
from trainables.mentors import find_mentor
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

        `network` maps [B, C, H, W] to logits [B, K] and must be in training mode at every call; `generator` draws
        partners and mixing coefficients. It is on the network's device, or on the CPU if that device lacks float64.
        """
        self._device = device = next(network.parameters()).device
        self._settings = settings
        self._network = network
        self._num_classes = num_classes
        self._steps = steps
        self._generator = generator
        self._mentor = find_mentor(settings.mentor)
        self._batch_loss = torch.compile(self._eager_loss, fullgraph=True) if settings.compile else self._eager_loss
        self._weighting_start = weighting_start(settings.burn_in, steps)
        self._autocast = autocast(settings.precision, device)
        self._running_statistics = RunningStatistics(network)
        self._percent = torch.zeros((), dtype=torch.int64, device=device)  # of the step
        # The moving averages of the percentile loss, of the examples (γ1) and of their mixtures (γ2).
        self._loss_average = torch.zeros((), device=device)
        self._mixed_loss_average = torch.zeros((), device=device)

    def __call__(self, step: int, images: Tensor, labels: Tensor) -> BatchLoss:
        """Returns the loss of a batch; gradients flow through the pass over its mixtures, which records statistics.

        Args:
            step: 0 … steps − 1, each once and in order.
            images: [B, C, H, W] float.
            labels: [B] int64.
        """
        self._percent.fill_(percent_done(step, self._steps))
        alpha = self._settings.mixup_alpha
        draws = algorithm.draw_mixing(len(labels), alpha, self._generator) if alpha > 0 else None
        if draws is not None and self._generator.device.type != self._device.type:
            draws = algorithm.moved(draws, self._device)
        is_weighted = step >= self._weighting_start and self._settings.mentor != "uniform"
        return self._batch_loss(images, labels, draws, is_weighted)

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

    def _eager_loss(
        self, images: Tensor, labels: Tensor, draws: algorithm.MixingDraws | None, is_weighted: bool
    ) -> BatchLoss:
        """Computes steps 1 to 7, without a Python number that changes from step to step.

        Args:
            images: [B, C, H, W] float.
            labels: [B] int64.
            draws: of this step; None without mixing.
            is_weighted: whether the weights depend on the losses. Not so, and all 1, with the mentor `uniform`, and
                during burn-in, except for its last steps, which warm the moving average up.
        """
        settings = self._settings
        if is_weighted:  # 1 to 3
            with torch.no_grad(), self._running_statistics.frozen():
                losses = cross_entropy(self._logits(images), labels, reduction="none")
            weights = self._example_weights(self._loss_average, losses)
        else:
            weights = torch.ones(len(labels), device=labels.device)

        soft_labels = algorithm.one_hot(labels, self._num_classes)
        if settings.label_smoothing > 0:
            soft_labels = algorithm.smooth(soft_labels, settings.label_smoothing)
        if draws is not None:  # 4 and 5
            partner_index = algorithm.sample_partners(weights, settings.partner_temperature, draws.uniforms)
            beta_samples = algorithm.beta_samples(draws.gammas)
            coefficients = algorithm.mixing_coefficients(beta_samples, weights, settings.mixing)
            images = algorithm.mix(images, partner_index, coefficients)
            soft_labels = algorithm.mix(soft_labels, partner_index, coefficients)

        losses = algorithm.soft_cross_entropy(self._logits(images), soft_labels)  # 6
        if settings.second_reweight:  # 7
            losses = losses * self._example_weights(self._mixed_loss_average, losses.detach())
        return BatchLoss(losses.mean(), weights)

    def _logits(self, images: Tensor) -> Tensor:
        """Returns the logits of the network in the trial's precision, as float32."""
        with self._autocast:
            return self._network(images).float()  # type: ignore[no-any-return]

    def _example_weights(self, average: Tensor, losses: Tensor) -> Tensor:
        """Updates `average` in place with the losses, and returns their weights."""
        percentile = algorithm.percentile_loss(losses, self._settings.loss_p_percentile)
        average.copy_(algorithm.update_average(average, percentile))
        return algorithm.example_weights(self._mentor, losses, average, self._percent, self._settings.burn_in)
