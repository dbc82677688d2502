"""One trial of an experiment as its journal tells it: its configuration, curve, answers, checkpoints and cost."""

from __future__ import annotations

import base64
import functools
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from trainables.errors import one_line
from tune_mentormix.config.controls import BASELINES
from tune_mentormix.experiment.schemas import NoiseEstimate, TrialRecord, TrialState
from tune_mentormix.storage.paths import Location

if TYPE_CHECKING:  # NumPy is imported where answers are compared
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

SECONDS_PER_HOUR = 3600.0


@dataclass
class ComputeUsage:
    """Training time by the trials' own clocks; starting workers and waiting are not in it."""

    training_seconds: float = 0.0
    cpu_hours: float = 0.0  # CPU cores held by training, times hours
    gpu_hours: float = 0.0  # GPUs, or fractions of them, held by training, times hours

    def add(self, seconds: float, cpus: float, gpus: float) -> None:
        """Adds one epoch."""
        self.training_seconds += seconds
        self.cpu_hours += seconds * cpus / SECONDS_PER_HOUR
        self.gpu_hours += seconds * gpus / SECONDS_PER_HOUR


class PackedAnswers(NamedTuple):
    """The validation images that a trial classified as labelled, after one epoch."""

    bits: str | Location  # of `numpy.packbits`: in base64, or the file that holds them
    images: int

    def unpack(self) -> NDArray[np.bool_] | None:
        """Returns [M] bool; None where the file is lost, damaged or, with a warning, cannot be read."""
        import numpy as np

        try:
            packed = base64.b64decode(self.bits) if isinstance(self.bits, str) else self.bits.read_bytes()
            return np.unpackbits(np.frombuffer(packed, np.uint8))[: self.images].reshape(self.images).view(np.bool_)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        except OSError as error:
            if not isinstance(self.bits, str):
                _warn_of_unreadable_answers(str(self.bits.parent), one_line(error))
            return None


@functools.cache
def _warn_of_unreadable_answers(folder: str, reason: str) -> None:
    """Warns once, not for each of the many files."""
    logger.warning("cannot read %s: %s; without it, what chance explains of a lead is less exact", folder, reason)


@dataclass
class Trial:
    """One configuration's training so far."""

    number: int
    config: dict[str, Any]
    control: str | None = None
    enqueued: bool = False  # a control or a warm start, not the sampler's choice
    state: TrialState = "running"
    attempt: int = 1  # starts so far: the first, each resume and each lost worker count
    reports: dict[int, dict[str, float | None]] = field(default_factory=dict)  # epoch → metrics
    answers: dict[int, PackedAnswers] = field(default_factory=dict)  # epoch → on the validation images
    checkpoints: list[tuple[int, str]] = field(default_factory=list)  # epoch, path in the experiment; oldest first
    error: str | None = None
    worker_lost: bool = False  # whether it failed because its workers died, not by its own fault
    node: str | None = None  # the machine that trains it, or did last; None until its first report
    usage: ComputeUsage = field(default_factory=ComputeUsage)
    noise: NoiseEstimate | None = None  # of the validation labels, as its network sees it; None before its end
    fold: int | None = None  # of the images that it holds out; None: the validation split of the search
    metric: str = "val_accuracy"  # that the search maximises, by its name in the reports

    @property
    def epoch(self) -> int:
        """The epochs that were reported."""
        return max(self.reports, default=0)

    @property
    def is_baseline(self) -> bool:
        """Whether it is plain mixup or plain training."""
        return self.control in BASELINES

    @property
    def uses_mentor(self) -> bool:
        """Whether it trains with MentorMix: a mentor weights the examples."""
        return not self.is_baseline and self.config.get("mentor") != "uniform"

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it is left to run."""
        return self.state not in ("pending", "running")

    @property
    def restarts(self) -> int:
        """Starts after the first."""
        return self.attempt - 1

    @property
    def val_accuracy(self) -> float | None:
        """The validation accuracy at the latest epoch that was reported."""
        return self.reports[self.epoch]["val_accuracy"] if self.reports else None

    @property
    def noisy_val_accuracy(self) -> float | None:
        """That on the noisy labels of the same images; None where the validation labels are not verified ones."""
        return self.reports[self.epoch].get("noisy_val_accuracy") if self.reports else None

    @property
    def score(self) -> float | None:
        """The metric that the search maximises, at the latest epoch."""
        return self.reports[self.epoch].get(self.metric) if self.reports else None

    @property
    def scores(self) -> dict[int, float]:
        """That metric by epoch, in order, where it was a number."""
        by_epoch = ((epoch, self.reports[epoch].get(self.metric)) for epoch in sorted(self.reports))
        return {epoch: score for epoch, score in by_epoch if score is not None}

    @property
    def best_epoch(self) -> int | None:
        """The first epoch with the highest metric that the search maximises."""
        scores = self.scores
        return max(scores, key=lambda epoch: scores[epoch], default=None)

    @property
    def curve(self) -> dict[int, float | None]:
        """The validation accuracy by epoch, in order."""
        return {epoch: self.reports[epoch]["val_accuracy"] for epoch in sorted(self.reports)}

    def correct_answers(self, epoch: int) -> NDArray[np.bool_] | None:
        """Returns for each validation image whether it was classified as labelled after an epoch: [M] bool.

        None where that was not kept: it is at rungs and at the last epoch, but not in journals of version 0.1.0.
        """
        return self.answers[epoch].unpack() if epoch in self.answers else None

    def record(self) -> TrialRecord:
        """Returns what `trials --json` shows."""
        return TrialRecord(
            trial=self.number,
            state=self.state,
            control=self.control,
            config=self.config,
            curve=self.curve,
            best_epoch=self.best_epoch,
            restarts=self.restarts,
            node=self.node,
            error=self.error,
            metrics=self.reports.get(self.epoch, {}),
        )
