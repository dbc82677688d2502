"""A search in simulated time: workers that train what a contestant proposes, epoch by epoch."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from problems import Params, Problem

JITTER = 0.1  # of an epoch's duration, either way


@dataclass(frozen=True)
class Proposal:
    """A trial that a contestant wants trained."""

    number: int
    params: Params
    is_baseline: bool = False  # costs its epochs, and never is the answer


class Contestant(Protocol):
    """A sampler and a scheduler."""

    def propose(self) -> Proposal:
        """The next trial, for a worker that is free."""

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        """Takes a report, and returns whether the trial continues; not called after the last epoch."""


@dataclass(frozen=True)
class Step:
    """From here on, a contestant would hand out another configuration."""

    epochs: int  # spent by all workers so far
    truth: float


def simulate(contestant: Contestant, problem: Problem, workers: int, seed: int, until: Budget) -> list[Step]:
    """Runs a search.

    Args:
        contestant: fresh.
        problem: what is trained.
        workers: that train at the same time.
        seed: of the epochs' durations and the reports' noise.
        until: returns whether it is over.

    Returns:
        How the answer changed: the finished trial with the highest last report, by its true accuracy.
    """
    durations = np.random.default_rng([seed, 1])
    queue: list[tuple[float, int, Proposal, int]] = []
    steps: list[Step] = []
    best = -1.0
    spent = 0
    for worker in range(workers):
        heapq.heappush(queue, (_duration(durations), worker, contestant.propose(), 1))
    while not until.is_spent(spent, steps):
        time, worker, trial, epoch = heapq.heappop(queue)
        spent += 1
        accuracy = problem.report(trial.params, epoch, seed)
        continues = contestant.report(trial.number, epoch, accuracy)
        if epoch == problem.epochs and not trial.is_baseline and accuracy > best:
            best = accuracy
            steps.append(Step(spent, problem.truth(trial.params)))
        if epoch == problem.epochs or not continues:
            trial, epoch = contestant.propose(), 0
        heapq.heappush(queue, (time + _duration(durations), worker, trial, epoch + 1))
    return steps


@dataclass(frozen=True)
class Budget:
    """At least `least` epochs, and on until the target is matched, up to `most`."""

    least: int
    most: int
    target: float

    def is_spent(self, spent: int, steps: list[Step]) -> bool:
        """Whether the search is over."""
        return spent >= self.most or (spent >= self.least and epochs_until(steps, self.target) is not None)


def epochs_until(steps: list[Step], target: float) -> int | None:
    """Epochs spent until the answer was as good as the target; None if it never was."""
    return next((step.epochs for step in steps if step.truth >= target), None)


def truth_after(steps: list[Step], epochs: int, before: float) -> float:
    """Returns how good the answer is after so many epochs; `before` while no trial has finished."""
    known = [step.truth for step in steps if step.epochs <= epochs]
    return known[-1] if known else before


def _duration(generator: np.random.Generator) -> float:
    return float(generator.uniform(1 - JITTER, 1 + JITTER))
