"""A search in simulated time: workers that train what a contestant proposes, epoch by epoch."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import NamedTuple, Protocol

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


class Reported(NamedTuple):
    """A report of a worker after an epoch."""

    spent: int  # epochs of all workers so far
    proposal: Proposal
    epoch: int
    accuracy: float
    ends: bool  # whether its trial ends here: at its last epoch, or because the contestant stops it


@dataclass(frozen=True)
class Step:
    """From here on, a contestant would hand out another configuration."""

    epochs: int  # spent by all workers so far
    truth: Accuracies


def reports(contestant: Contestant, problem: Problem, workers: int, seed: int) -> Iterator[Reported]:
    """Runs a search without an end, and yields its reports.

    Args:
        contestant: fresh.
        problem: what is trained.
        workers: that train at the same time.
        seed: of the epochs' durations and the trials' luck.
    """
    durations = np.random.default_rng([seed, 1])
    queue: list[tuple[float, int, Proposal, int]] = []
    for worker in range(workers):
        trial = contestant.propose()
        heapq.heappush(queue, (duration(durations), worker, trial, trial.trained + 1))
    for spent in count(1):
        time, worker, trial, epoch = heapq.heappop(queue)
        accuracy = problem.report(trial.params, epoch, seed)
        continues = contestant.report(trial.number, epoch, accuracy)
        ends = epoch == problem.epochs or not continues
        yield Reported(spent, trial, epoch, accuracy, ends)
        if ends:
            trial = contestant.propose()
            epoch = trial.trained
        heapq.heappush(queue, (time + duration(durations), worker, trial, epoch + 1))


def simulate(contestant: Contestant, problem: Problem, workers: int, seed: int, epochs: int) -> list[Step]:
    """Runs a search until all workers together have spent so many epochs.

    Returns:
        How the answer changed: the finished trial with the highest last report, baselines included.
    """
    steps: list[Step] = []
    best = -1.0
    for report in islice(reports(contestant, problem, workers, seed), epochs):
        if report.epoch == problem.epochs and report.accuracy > best:
            best = report.accuracy
            steps.append(Step(report.spent, problem.truth(report.proposal.params)))
    return steps


def truth_after(steps: list[Step], epochs: float, before: Accuracies) -> Accuracies:
    """Returns how good the answer is after so many epochs; `before` while no trial has finished."""
    known = [step.truth for step in steps if step.epochs <= epochs]
    return known[-1] if known else before


def duration(generator: np.random.Generator) -> float:
    """Draws how long an epoch takes."""
    return float(generator.uniform(1 - JITTER, 1 + JITTER))
