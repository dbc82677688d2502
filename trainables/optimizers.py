"""The optimizer of a trial: which weights it changes, how fast, and how a loss becomes a step.

Nothing here reads a tensor on the host.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.utils import clip_grad_norm_

from trainables.errors import NetworkError
from trainables.models import parameter_groups
from trainables.models.pretrained import head_names
from trainables.schedules import learning_rate, warm_up
from trainables.settings import TrialSettings

BETA_2 = 0.999  # of AdamW; its β₁ is the momentum


class TrialOptimizer:
    """SGD or AdamW on a network's weights, with the trial's schedule.

    The head may have another learning rate, and train alone at first; gradients may be clipped. In fp16 the loss is
    scaled.
    """

    def __init__(self, settings: TrialSettings, network: nn.Module, steps: int) -> None:
        """Starts at step 0 of `steps`, those of the whole trial."""
        self._settings = settings
        self._steps = steps
        steps_per_epoch = steps // settings.epochs
        self._warm_up_steps = round(settings.warm_up_epochs * steps_per_epoch)
        self._frozen_steps = settings.freeze_backbone_epochs * steps_per_epoch
        head = _head(settings, network)
        self._backbone = [weight for weight in network.parameters() if weight.requires_grad and weight not in head]
        self._is_frozen = False
        self._optimizer = _build(settings, network, head)
        device = next(network.parameters()).device
        self._scaler = GradScaler(device.type, enabled=_is_scaled(settings, device))
        # Scalars on a GPU: a step, captured in a graph, reads what was written here before it.
        if device.type == "cuda":
            for group in self._optimizer.param_groups:
                group["lr"] = torch.zeros((), device=device)

    def schedule(self, step: int) -> None:
        """Prepares a step, 0 … steps − 1: filling a scalar on the device waits for nothing."""
        settings = self._settings
        rate = learning_rate(settings.lr_schedule, settings.learning_rate, step, self._steps)
        rate *= warm_up(step, self._warm_up_steps)
        for group in self._optimizer.param_groups:
            scaled = rate * group["lr_factor"]
            group["lr"] = group["lr"].fill_(scaled) if isinstance(group["lr"], Tensor) else scaled
        if self._is_frozen != (step < self._frozen_steps):
            self._is_frozen = not self._is_frozen
            for weight in self._backbone:
                weight.requires_grad_(not self._is_frozen)

    def step(self, loss: Tensor) -> None:
        """Changes the weights by the gradient of a loss; not at all if a gradient overflowed in fp16."""
        self._optimizer.zero_grad()
        torch.autograd.backward(self._scaler.scale(loss))
        if self._settings.gradient_clipping > 0:
            self._scaler.unscale_(self._optimizer)
            weights = [weight for group in self._optimizer.param_groups for weight in group["params"]]
            clip_grad_norm_(weights, self._settings.gradient_clipping)
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


def _head(settings: TrialSettings, network: nn.Module) -> set[Tensor]:
    """Returns the weights of the head if it trains differently; raises NetworkError if there is none to be found."""
    if settings.head_lr_factor == 1 and settings.freeze_backbone_epochs == 0:
        return set()
    head: set[Tensor] = {
        weight for name in head_names(network) for weight in network.get_submodule(name).parameters()
    }
    if not head:
        raise NetworkError(
            f"network {settings.network} has no dense layer or convolution as its head, which head_lr_factor and "
            "freeze_backbone_epochs need"
        )
    return head


def _build(settings: TrialSettings, network: nn.Module, head: set[Tensor]) -> torch.optim.Optimizer:
    """Returns the optimizer, whose groups have an `lr_factor`, by which the trial's learning rate is multiplied."""
    device = next(network.parameters()).device
    is_scaled = _is_scaled(settings, device)
    # A fused optimizer takes the scale and whether a gradient overflowed as tensors, so that nothing is read.
    fused = device.type == "cuda" or is_scaled or None
    decays = settings.decay_under_second_reweight or not settings.second_reweight
    groups = [
        group | {"lr_factor": 1.0} for group in parameter_groups(network, settings.weight_decay if decays else 0.0)
    ]
    if settings.head_lr_factor != 1:
        groups = _with_own_rate(groups, head, settings.head_lr_factor)
    if settings.optimizer == "adamw":
        betas = (settings.momentum, BETA_2)
        return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=betas, fused=fused)
    optimizer = torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum, fused=fused)
    if is_scaled and settings.momentum > 0:
        _zero_momentum(optimizer)
    return optimizer


def _is_scaled(settings: TrialSettings, device: torch.device) -> bool:
    """Whether the loss is scaled; on MPS, where fp16 is float32, the scaler would need 64-bit floats."""
    return settings.precision == "fp16" and device.type != "mps"


def _with_own_rate(groups: list[dict[str, Any]], head: set[Tensor], factor: float) -> list[dict[str, Any]]:
    """Returns the groups of all other weights, then those of the head, with its factor of the learning rate."""
    split = []
    for is_head in (False, True):
        for group in groups:
            weights = [weight for weight in group["params"] if (weight in head) == is_head]
            split.append(group | {"params": weights, "lr_factor": factor if is_head else 1.0})
    return split


def _zero_momentum(optimizer: torch.optim.SGD) -> None:
    """Makes the momentum of all weights 0, as which it acts in the first step anyway.

    Fused SGD would leave it uninitialized if the first step is skipped, and use it in the second (torch 2.15).
    """
    for group in optimizer.param_groups:
        for weight in group["params"]:
            optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
