"""One MentorMix training step as pure tensor functions, in the order of the algorithm (Jiang et al. 2020).

Weight, sample, mix, weight again. No network, and no tensor value is read on the host.
B is the batch size, K the number of classes; losses are cross-entropies in nats. Steps are numbered as in
`docs/method.md`; step 1 (the losses) is in `trainables.objective`, steps 8 and 9 (the optimizer and the EMA) in
`trainables.training`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from trainables.mentors import Mentor
from trainables.settings import MixingRule

AVERAGE_DECAY = 0.5  # of the moving averages of the percentile loss


def percentile_loss(losses: Tensor, p: Tensor | float) -> Tensor:
    """Returns the p-percentile of a batch's losses by nearest rank, as the reference computes it.

    Args:
        losses: [B].
        p: in (0, 1); a scalar tensor on the losses' device may change from step to step in a captured graph.

    Returns:
        A scalar: of the losses in ascending order the one at B − 1 − round((B − 1)(1 − p)), halves to even.
    """
    last = losses.numel() - 1
    if isinstance(p, Tensor):
        rank = (last - torch.round(last * (1 - p.double())).long()).reshape(1)
    else:  # filled on the device: `torch.as_tensor` would copy it from the host, and wait for that
        rank = torch.full((1,), last - round(last * (1 - p)), device=losses.device)
    return losses.sort().values.index_select(0, rank).squeeze(0)


def update_average(average: Tensor, percentile: Tensor) -> Tensor:
    """Step 2: the moving average γ of the percentile loss; it starts at 0 and is updated before it is used."""
    return AVERAGE_DECAY * average + (1 - AVERAGE_DECAY) * percentile


def example_weights(mentor: Mentor, losses: Tensor, average: Tensor, percent: Tensor | int, burn_in: float) -> Tensor:
    """Steps 3 and 7: the mentor's weights; 1 during burn-in, which ends at `percent` = `burn_in` − 1.

    Args:
        mentor: the weighting function.
        losses: [B].
        average: scalar, the moving average γ, already updated with these losses.
        percent: scalar, floor(100 · step / steps), 0 … 99.
        burn_in: percent of training.

    Returns:
        [B] weights in [0, 1].
    """
    weights = mentor(losses, losses - average, percent)
    is_burning_in = torch.as_tensor(percent, device=losses.device) < burn_in - 1
    return torch.where(is_burning_in, torch.ones_like(weights), weights)


class MixingDraws(NamedTuple):
    """The random numbers of a step, drawn before it: a compiled or captured step has no generator."""

    uniforms: Tensor  # [B] in [0, 1), one for each partner
    gammas: Tensor  # [2, B] float64, Gamma(α) variables, two for each mixing coefficient


def draw_mixing(batch_size: int, alpha: float, generator: Generator) -> MixingDraws:
    """Draws the random numbers of steps 4 and 5 on the generator's device; `alpha` is above 0.

    The Gamma variables are in double precision: for a small α they underflow in single precision.
    """
    device = generator.device
    uniforms = torch.rand(batch_size, generator=generator, device=device)
    shape = torch.full((2, batch_size), alpha, dtype=torch.float64, device=device)
    return MixingDraws(uniforms, torch._standard_gamma(shape, generator=generator))


def moved(draws: MixingDraws, device: torch.device) -> MixingDraws:
    """Copies draws from the CPU to a device without float64, such as MPS; their ratios are taken before that."""
    ratios = draws.gammas / draws.gammas.sum(dim=0)
    return MixingDraws(draws.uniforms.to(device), ratios.float().to(device))


def sample_partners(weights: Tensor, temperature: float, uniforms: Tensor) -> Tensor:
    """Step 4: a partner for every example, with replacement, j ~ Categorical(softmax(weights / temperature)).

    Args:
        weights: [B].
        temperature: above 0; the higher, the less the weights matter.
        uniforms: [B], as `draw_mixing` draws them.

    Returns:
        [B] int64, indices into the batch.
    """
    cumulative = (weights / temperature).softmax(dim=0).cumsum(dim=0)
    # The last cumulative sum stands for 1, but rounding may leave it a little below the largest uniform.
    return torch.searchsorted(cumulative, uniforms, right=True).clamp_max(weights.numel() - 1)


def beta_samples(gammas: Tensor) -> Tensor:
    """Step 5: λ ~ Beta(α, α) for every example, the ratio of Gamma variables [2, B]; returns [B] float32 in [0, 1].

    `torch.distributions` would read values on the host.
    """
    first, second = gammas.unbind()
    return (first / (first + second)).float()


def mixing_coefficients(beta_samples: Tensor, weights: Tensor, rule: MixingRule) -> Tensor:
    """Step 5: the mixing coefficients λ_i, the fraction of the example itself; its partner has the rest.

    With m = max(λ, 1 − λ), the rule "hard" (the reference) gives m where the weight is at least 0.5, else
    1 − m; "interpolated" (the paper) goes linearly from 1 − m to m as the weight goes from 0 to 1.

    Args:
        beta_samples: [B] in [0, 1].
        weights: [B] in [0, 1].
        rule: how the weight decides.

    Returns:
        [B] in [0, 1].
    """
    larger = torch.maximum(beta_samples, 1 - beta_samples)
    if rule == "hard":
        return torch.where(weights >= 0.5, larger, 1 - larger)
    return weights * larger + (1 - weights) * (1 - larger)


def mix(examples: Tensor, partner_index: Tensor, coefficients: Tensor) -> Tensor:
    """Step 5: λ_i x_i + (1 − λ_i) x_j.

    Args:
        examples: [B, ...] float: images, or labels as soft one-hot vectors.
        partner_index: [B] int64.
        coefficients: [B], λ.

    Returns:
        [B, ...] mixtures.
    """
    coefficients = coefficients.reshape(-1, *[1] * (examples.dim() - 1))
    return coefficients * examples + (1 - coefficients) * examples.index_select(0, partner_index)


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Labels [B] int64 as [B, K] float32; `torch.nn.functional.one_hot` would read them on the host."""
    zeros = torch.zeros(labels.shape[0], num_classes, device=labels.device)
    return zeros.scatter(1, labels.unsqueeze(1), 1.0)


def smooth(soft_labels: Tensor, smoothing: float) -> Tensor:
    """Spreads a part of every label [B, K] over all classes evenly (Szegedy et al. 2016)."""
    return (1 - smoothing) * soft_labels + smoothing / soft_labels.shape[1]


def soft_cross_entropy(logits: Tensor, soft_labels: Tensor) -> Tensor:
    """Step 6: cross-entropy with soft labels, both [B, K]; returns [B], nats."""
    return -(soft_labels * logits.log_softmax(dim=1)).sum(dim=1)
