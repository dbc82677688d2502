"""JSON shapes that the API returns, besides those that `--json` prints (`experiment.schemas`)."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tune_mentormix.experiment.schemas import (
    BestTrial,
    CleanEstimate,
    ExpectedGain,
    ListedState,
    SearchOverview,
    TrialState,
    Verdict,
)
from tune_mentormix.results.made_files import MadeFiles


class Problem(BaseModel):
    """The reason why a request was refused, or has no result yet."""

    detail: str


class ConfirmationSummary(BaseModel):
    """The confirmation of a search."""

    state: ListedState
    runs: int = 0
    """How many trainings have ended."""
    planned: int = 0
    """How many there will be, if no more candidates are ruled out."""
    ended: str | None = None
    """Why it ended; None while it runs, and where its driver died."""
    verdicts: list[str] = []
    """What it found, in sentences; empty before the test set was opened."""
    error: str | None = None
    """Why it cannot be read."""


class SearchSummary(SearchOverview):
    """One search, as the list shows it."""

    confirmation: ConfirmationSummary | None = None


class SearchStatus(SearchSummary):
    """One search, with its settings and what it found."""

    verdict: Verdict | None
    expected_gain: ExpectedGain | None
    settings: dict[str, Any]


class SearchList(BaseModel):
    """Searches, by name."""

    total: int
    experiments: list[SearchSummary]


class MadeList(BaseModel):
    """What jobs made of a search."""

    made: list[MadeFiles]


class TrialRecord(BaseModel):
    """One trial, without its curve."""

    model_config = ConfigDict(from_attributes=True)

    trial: int = Field(validation_alias="number")
    state: TrialState
    control: str | None
    config: dict[str, Any]
    epoch: int
    val_accuracy: float | None
    best_epoch: int | None
    clean_estimate: CleanEstimate | None = None
    restarts: int
    error: str | None


class TrialList(BaseModel):
    """Trials, sorted and filtered as asked."""

    total: int
    trials: list[TrialRecord]


class Curve(BaseModel):
    """Validation accuracy of one trial, by epoch."""

    trial: int
    state: TrialState
    control: str | None
    epochs: list[int]
    val_accuracy: list[float | None]


class CurveList(BaseModel):
    """Curves, by trial."""

    total: int
    split: str
    labels: str
    rungs: list[int]
    curves: list[Curve]


class BestAnswer(BaseModel):
    """The best trial, if any reported yet."""

    split: str
    labels: str
    best: BestTrial | None


class JobRecord(BaseModel):
    """One job of the cluster."""

    name: str
    state: str
    message: str | None


class JobList(BaseModel):
    """The searches that were submitted."""

    jobs: list[JobRecord]
    trouble: str | None  # why the cluster could not be asked


class Accepted(BaseModel):
    """The cluster accepted a request; the search's own state follows."""

    name: str
    state: str


class SuspiciousLabel(BaseModel):
    """The label of one training image, with the columns of `labels --out`."""

    image: str
    given: str
    suggested: str
    p_given: float
    score: float
    rank: int
    out_of_fold: bool


class SuspiciousLabelList(BaseModel):
    """Labels, the most suspicious first."""

    total: int
    labels: list[SuspiciousLabel]
