"""JSON shapes of searches and trials: what `status`, `list` and `trials` print with `--json`, and the API returns."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

TrialState = Literal["pending", "running", "stopped_early", "finished", "failed"]
SearchState = Literal["running", "interrupted", "finished"]


class TrialCounts(BaseModel):
    """Trials by state; they add up to `num_samples`."""

    pending: int = 0
    running: int = 0
    stopped_early: int = 0
    finished: int = 0
    failed: int = 0


class BestTrial(BaseModel):
    """The best trial so far."""

    trial_id: int
    val_accuracy: float | None
    epoch: int
    config: dict[str, Any]


class SearchOverview(BaseModel):
    """One search, as `list` shows it."""

    name: str
    state: SearchState
    ended: str | None = None
    trials: TrialCounts
    num_samples: int
    epochs_run: int = 0
    split: str = "validation"
    labels: str = "noisy"
    best: BestTrial | None = None
    controls: dict[str, float | None] = {}


class SearchStatus(SearchOverview):
    """One search, as `status` shows it."""

    settings: dict[str, Any]


class TrialRecord(BaseModel):
    """One trial, as `trials` shows it."""

    trial: int
    state: TrialState
    control: str | None
    config: dict[str, Any]
    curve: dict[int, float | None]
    best_epoch: int | None
    restarts: int
    node: str | None
    error: str | None
