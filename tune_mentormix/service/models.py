"""What the API answers, as models: its OpenAPI document is made of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path as PathParameter
from fastapi import Query
from pydantic import BaseModel, Field

from tune_mentormix.config.settings import NAME_PATTERN

SearchStateName = Literal["running", "interrupted", "finished", "unreadable"]
TrialStateName = Literal["pending", "running", "stopped_early", "finished", "failed"]
Name = Annotated[str, PathParameter(pattern=f"^{NAME_PATTERN}$", description="The experiment's name.")]
Limit = Annotated[int, Query(ge=1, le=1_000, description="How many at most.")]
Offset = Annotated[int, Query(ge=0, le=1_000_000_000, description="How many to leave out first.")]


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str


class TrialCounts(BaseModel):
    """Trials by state; they add up to `num_samples`."""

    pending: int = 0
    running: int = 0
    stopped_early: int = 0
    finished: int = 0
    failed: int = 0


class Best(BaseModel):
    """The best trial so far."""

    trial_id: int
    val_accuracy: float | None
    epoch: int
    config: dict[str, Any]


class SearchSummary(BaseModel):
    """One search, as `list` shows it."""

    name: str
    state: SearchStateName
    ended: str | None = None
    trials: TrialCounts
    num_samples: int
    epochs_run: int = 0
    split: str = "validation"
    labels: str = "noisy"
    best: Best | None = None
    controls: dict[str, float | None] = Field(default_factory=dict)
    error: str | None = None  # why it cannot be read


class SearchStatus(SearchSummary):
    """One search, as `status` shows it."""

    settings: dict[str, Any]


class SearchList(BaseModel):
    """Searches, by name."""

    total: int
    experiments: list[SearchSummary]


class TrialRecord(BaseModel):
    """One trial, without its curve."""

    trial: int
    state: TrialStateName
    control: str | None
    config: dict[str, Any]
    epoch: int
    val_accuracy: float | None
    best_epoch: int | None
    restarts: int
    error: str | None


class TrialList(BaseModel):
    """Trials, sorted and filtered as asked."""

    total: int
    trials: list[TrialRecord]


class Curve(BaseModel):
    """Validation accuracy of one trial, by epoch."""

    trial: int
    state: TrialStateName
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
    best: Best | None


class JobRecord(BaseModel):
    """One job of the cluster."""

    name: str
    state: str
    message: str | None


class JobList(BaseModel):
    """What was submitted."""

    jobs: list[JobRecord]
    trouble: str | None  # why the cluster could not be asked


class Accepted(BaseModel):
    """Something was asked of the cluster; the search's own state follows."""

    name: str
    state: str


class Preparing(BaseModel):
    """A file is being made: ask again."""

    detail: str
