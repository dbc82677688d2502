"""Schedules: burn-in, learning rate and EMA decay as functions of the step and the trial's length, plain numbers.

Every schedule but the warm-up is stated in fractions of the trial, so that a short trial is a long one scaled down.
"""

from __future__ import annotations

import math

from trainables.settings import LearningRateSchedule

# The reference multiplies its rate by 0.9 every 30 epochs, and trains for 512.
STEP_DECAY = 0.9
STEP_DECAYS = 512 / 30

# The moving average of the percentile loss halves its memory at every update, so after as many updates as
# float32 has bits in its significand nothing is left of where it started.
WARM_UP_STEPS = 24


def percent_done(step: int, steps: int) -> int:
    """Returns the percent of the trial done before `step` (0 … steps − 1): floor(100 · step / steps)."""
    return 100 * step // steps


def burn_in_end(burn_in: float, steps: int) -> int:
    """Returns the first step after burn-in, which lasts while `percent_done` is below `burn_in` − 1."""
    last_percent = math.ceil(burn_in - 1)
    return max(0, math.ceil(last_percent * steps / 100))


def weighting_start(burn_in: float, steps: int) -> int:
    """Returns the first step whose weights are computed, `WARM_UP_STEPS` before burn-in ends.

    The reference computes weights throughout burn-in and overrides them with 1: only the moving
    average of the percentile loss carries over, and the last `WARM_UP_STEPS` batches alone determine it.
    """
    return max(0, burn_in_end(burn_in, steps) - WARM_UP_STEPS)


def learning_rate(schedule: LearningRateSchedule, initial: float, step: int, steps: int) -> float:
    """Returns the learning rate at `step`: the reference's steps, or half a cosine that ends at 0."""
    progress = step / steps
    if schedule == "steps":
        return initial * STEP_DECAY ** math.floor(STEP_DECAYS * progress)
    return initial * 0.5 * (1 + math.cos(math.pi * progress))


def warm_up(step: int, warm_up_steps: int) -> float:
    """Returns by how much the learning rate is multiplied: it grows linearly to 1 over the first steps, then is 1."""
    return min(1.0, (step + 1) / warm_up_steps) if warm_up_steps > 0 else 1.0


def ema_decay(horizon: float, step: int, steps: int) -> float:
    """Returns the decay of the EMA of the weights after `step`: min(1 − 1/(horizon · steps), (1 + step)/(10 + step)).

    The horizon of the average is a fraction of the trial, above 0; the reference's 0.9999 of 200,000 steps is 0.05.
    The decay is 0, which forgets everything older, if the horizon is at most one step.
    """
    longest = max(0.0, 1 - 1 / (horizon * steps))
    return min(longest, (1 + step) / (10 + step))
