"""The optimizer of a trial: how a loss becomes a change of the weights. It reads no tensor on the host."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from trainables.models import parameter_groups
from trainables.schedules import learning_rate
from trainables.settings import TrialSettings

MOMENTUM = 0.9


class TrialOptimizer:
    """SGD on a network's weights, with the trial's schedule and, in fp16, a scaled loss."""

    def __init__(self, settings: TrialSettings, network: nn.Module, steps: int) -> None:
        """Starts at step 0 of `steps`, those of the whole trial."""
        device = next(network.parameters()).device
        decays = settings.decay_under_second_reweight or not settings.second_reweight
        groups = parameter_groups(network, settings.weight_decay if decays else 0.0)
        is_scaled = settings.precision == "fp16"
        self._settings = settings
        self._steps = steps
        # A fused optimizer takes the scale and whether a gradient overflowed as tensors, so that nothing is read.
        is_fused = device.type == "cuda" or is_scaled
        self._optimizer = torch.optim.SGD(
            groups, lr=settings.learning_rate, momentum=MOMENTUM, fused=is_fused or None
        )
        self._scaler = GradScaler(device.type, enabled=is_scaled)
        if is_scaled:
            self._zero_momentum()
        # A scalar on the GPU: a step, captured in a graph, reads what was written here before it.
        self._learning_rate = torch.zeros((), device=device) if device.type == "cuda" else None

    def schedule(self, step: int) -> None:
        """Sets the learning rate of a step, 0 … steps − 1: filling a scalar on the device waits for nothing."""
        settings = self._settings
        rate = learning_rate(settings.lr_schedule, settings.learning_rate, step, self._steps)
        for group in self._optimizer.param_groups:  # on a CPU SGD would read a tensor's value for each weight
            group["lr"] = rate if self._learning_rate is None else self._learning_rate.fill_(rate)

    def step(self, loss: Tensor) -> None:
        """Changes the weights by the gradient of a loss; not at all if a gradient overflowed in fp16."""
        self._optimizer.zero_grad()
        torch.autograd.backward(self._scaler.scale(loss))
        self._scaler.step(self._optimizer)
        self._scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of every weight by its number, and of the scaler; both without what the settings say."""
        return {"momentum": self._optimizer.state_dict()["state"], "scaler": self._scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a saved state; one of an earlier version has no scaler."""
        own_groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state["momentum"], "param_groups": own_groups})
        if state.get("scaler"):
            self._scaler.load_state_dict(state["scaler"])

    def _zero_momentum(self) -> None:
        """Makes the momentum of all weights 0, as which it acts in the first step anyway.

        Fused SGD would leave it uninitialized if the first step is skipped, and use it in the second (torch 2.15).
        """
        for group in self._optimizer.param_groups:
            for weight in group["params"]:
                self._optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
