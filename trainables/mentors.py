"""The weighting functions ("mentors"): how much each example counts, judged by its loss.

One table, `MENTORS`. Burn-in and the use of the weights are in `trainables.step`.
No mentor reads a tensor's value on the host, so each can run inside a captured or compiled step.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol, cast

import torch
from torch import Tensor

from trainables.errors import PluginError
from trainables.plugins import call_plugin, is_plugin, load_plugin
from trainables.settings import MentorName


class Mentor(Protocol):
    """The signature of every weighting function."""

    def __call__(self, losses: Tensor, differences: Tensor, percent: Tensor | int) -> Tensor:
        """Returns the weights of a batch of examples.

        Args:
            losses: [B] float, nats.
            differences: [B] float, the losses minus the moving average of their percentile.
            percent: scalar, the percent of training done, 0 … 99.

        Returns:
            [B] weights in [0, 1], of the losses' dtype and device.
        """


def threshold(losses: Tensor, differences: Tensor, percent: Tensor | int) -> Tensor:
    """Self-paced: 1 up to the moving average, 0 above it (Kumar et al. 2010)."""
    return (differences <= 0).to(losses.dtype)


def mentornet_pd(losses: Tensor, differences: Tensor, percent: Tensor | int) -> Tensor:
    """The trained MentorNet-PD in closed form (Jiang et al. 2018): a threshold at first, linear from 80 percent on.

    Fitted to the weights of the reference implementation's trained network: mean absolute error 0.006.
    """
    early = (differences < 0.056).to(losses.dtype)
    late = (1 - differences).clamp(0, 1)
    return torch.where(torch.as_tensor(percent, device=losses.device) < 80, early, late)


def spcl_linear(losses: Tensor, differences: Tensor, percent: Tensor | int) -> Tensor:
    """Self-paced curriculum learning's linear scheme (Jiang et al. 2015): 1 − difference, within [0, 1]."""
    return (1 - differences).clamp(0, 1)


def focal(losses: Tensor, differences: Tensor, percent: Tensor | int) -> Tensor:
    """Focal weighting with γ = 2 (Lin et al. 2017): (1 − e^(−loss))², which favours the hard examples."""
    return (1 - torch.exp(-losses)).square()


def uniform(losses: Tensor, differences: Tensor, percent: Tensor | int) -> Tensor:
    """Every example counts fully: plain mixup, or plain training without mixing."""
    return torch.ones_like(losses)


MENTORS: dict[MentorName, Mentor] = {
    "threshold": threshold,
    "mentornet_pd": mentornet_pd,
    "spcl_linear": spcl_linear,
    "focal": focal,
    "uniform": uniform,
}
SELECTIVE_MENTORS = frozenset({"threshold", "mentornet_pd", "spcl_linear"})
"""Those whose weights fall as the loss rises, so that images with wrong labels get low ones."""


def find_mentor(name: str) -> Mentor:
    """Returns a mentor by its name, also a plug-in. Raises PluginError if it cannot be loaded."""
    if is_plugin(name):
        return cast(Mentor, load_plugin("mentor", name))
    return MENTORS[cast(MentorName, name)]


def try_mentor(name: str) -> None:
    """Calls a mentor that is a plug-in. Raises PluginError, with its name, if it breaks the protocol."""
    mentor = load_plugin("mentor", name)
    losses = torch.linspace(0, 6, 32)
    for percent in (0, torch.tensor(50), torch.tensor(99)):
        weights = call_plugin("mentor", name, partial(mentor, losses.clone(), losses - 1.5, percent))
        if not isinstance(weights, Tensor):
            raise PluginError(f"mentor {name} must return a tensor of weights, got one {type(weights).__name__}")
        if weights.shape != losses.shape:
            raise PluginError(f"mentor {name} must return a weight for each of 32 losses, got {list(weights.shape)}")
        if weights.dtype != losses.dtype:
            raise PluginError(f"mentor {name} must return weights of the losses' type float32, got {weights.dtype}")
        if not bool(((weights >= 0) & (weights <= 1)).all()):
            raise PluginError(f"mentor {name} must return weights in [0, 1]")
