"""A search in simulated time: workers that train what a contestant proposes, epoch by epoch."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from problems import Accuracies, Baseline, Params, Problem

JITTER = 0.1  # of an epoch's duration, either way


@dataclass(frozen=True)
class Proposal:
    """A trial that a contestant wants trained."""

    number: int
    params: Params | Baseline
    trained: int = 0  # epochs that an earlier trial of this configuration has trained, from which it continues


class Contestant(Protocol):
    """A sampler and a scheduler."""

    def propose(self) -> Proposal:
        """The next trial, for a worker that is free."""

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        """Takes a report, and returns whether the trial continues; not asked for after the last epoch."""


@dataclass(frozen=True)
class Step:
    """From here on, a contestant would hand out another configuration."""

    epochs: int  # spent by all workers so far
    truth: Accuracies


def simulate(contestant: Contestant, problem: Problem, workers: int, seed: int, epochs: int) -> list[Step]:
    """Runs a search.

    Args:
        contestant: fresh.
        problem: what is trained.
        workers: that train at the same time.
        seed: of the epochs' durations and the trials' luck.
        epochs: to spend, by all workers together.

    Returns:
        How the answer changed: the finished trial with the highest last report, baselines included.
    """
    durations = np.random.default_rng([seed, 1])
    queue: list[tuple[float, int, Proposal, int]] = []
    steps: list[Step] = []
    best = -1.0
    for worker in range(workers):
        trial = contestant.propose()
        heapq.heappush(queue, (duration(durations), worker, trial, trial.trained + 1))
    for spent in range(1, epochs + 1):
        time, worker, trial, epoch = heapq.heappop(queue)
        accuracy = problem.report(trial.params, epoch, seed)
        continues = contestant.report(trial.number, epoch, accuracy)
        if epoch == problem.epochs and accuracy > best:
            best = accuracy
            steps.append(Step(spent, problem.truth(trial.params)))
        if epoch == problem.epochs or not continues:
            trial = contestant.propose()
            epoch = trial.trained
        heapq.heappush(queue, (time + duration(durations), worker, trial, epoch + 1))
    return steps


def truth_after(steps: list[Step], epochs: float, before: Accuracies) -> Accuracies:
    """Returns how good the answer is after so many epochs; `before` while no trial has finished."""
    known = [step.truth for step in steps if step.epochs <= epochs]
    return known[-1] if known else before


def duration(generator: np.random.Generator) -> float:
    """Draws how long an epoch takes."""
    return float(generator.uniform(1 - JITTER, 1 + JITTER))
