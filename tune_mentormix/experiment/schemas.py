"""JSON shapes of searches and trials: what `status`, `list` and `trials` print with `--json`, and the API returns."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from tune_mentormix.storage.waiting import StorageWait

TrialState = Literal["pending", "running", "stopped_early", "finished", "failed"]
SearchState = Literal["running", "interrupted", "finished"]
ListedState = SearchState | Literal["unreadable"]  # of a list, which shows damaged searches too


class NoiseEstimate(BaseModel):
    """The label noise of the validation images as one network sees it (`results.label_quality`)."""

    model_config = ConfigDict(frozen=True)

    images: int
    rate: float
    """Fraction of wrong labels, counted on the half of the images that the network is surest of."""
    confidence_gap: float = 0.0
    """How much smaller this fraction is on the surest quarter; the network's own errors make it so."""
    concentration: float
    """How much the wrong labels of a class fall on few classes: 0 evenly on all others, 1 all on one."""
    is_symmetric: bool
    """Whether the concentration may be chance."""
    transition: list[list[float]] | None
    """[K, K]: of each true class (row), the fraction labelled as each class; None with many classes."""

    @property
    def rate_images(self) -> int:
        """Number of images on which the rate was counted."""
        return self.images // 2


class CleanEstimate(BaseModel):
    """An accuracy on noisy labels as it would be on clean ones, with its 95 % interval."""

    model_config = ConfigDict(frozen=True)

    accuracy: float
    low: float
    high: float
    assumption: str

    def __str__(self) -> str:
        """Formats it in percent: `93.5 % [91.0, 95.8]`."""
        return f"{100 * self.accuracy:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


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
    score: float | None = None
    """The metric that the search maximises."""
    noisy_val_accuracy: float | None = None
    """On the noisy labels of the same images, where `val_accuracy` is on verified ones."""
    clean_estimate: CleanEstimate | None = None


class Verdict(BaseModel):
    """The finding of a search: how far the best is ahead of the best other control, and how far by chance."""

    headline: str
    is_gain: bool
    """Whether a configuration that is no control is ahead of the controls by more than chance explains."""
    lead: float | None
    """A fraction of the validation images; None without another control that ran to its end."""
    bound: float | None
    """The largest lead that chance explains, with a probability of 95 %, in a search of as many trials."""


class UsableNodes(BaseModel):
    """The nodes of the cluster that a running search may use."""

    model_config = ConfigDict(from_attributes=True)

    nodes: int
    room: int
    """For so many trials at once."""
    waiting: int
    """So many trials more could run on further nodes, which were asked for."""

    def __str__(self) -> str:
        text = f"nodes: {self.nodes}, trials at once: {self.room}"
        return f"{text}, trials that wait for further nodes: {self.waiting}" if self.waiting else text


class ExpectedGain(BaseModel):
    """How much better the answer of a search may become with further trials."""

    model_config = ConfigDict(from_attributes=True)

    after: int
    """So many trials had ended when it was computed."""
    trials: int
    mean: float
    """A fraction of the images, without the luck of a single trial."""
    upper: float
    """A larger gain has a probability of one in eight."""

    def __str__(self) -> str:
        mean, upper = (f"{100 * max(0.0, value):.1f}" for value in (self.mean, self.upper))
        if mean == upper == "0.0":
            return f"Expected gain of {self.trials} more trials: less than 0.1 points."
        return f"Expected gain of {self.trials} more trials: {mean} points; 1 in 8 that it is more than {upper}."


class SearchOverview(BaseModel):
    """One search, as `list` shows it."""

    name: str
    owner: str | None = None
    """None where an earlier version started it."""
    state: ListedState
    error: str | None = None
    """Why it cannot be read."""
    waiting: StorageWait | None = None
    """Since when a running search waits for its storage, and why."""
    nodes: UsableNodes | None = None
    """None where it does not run."""
    ended: str | None = None
    trials: TrialCounts
    num_samples: int
    epochs_run: int = 0
    split: str = "validation"
    labels: str = "noisy"
    metric: str = "val_accuracy"
    """Which the search maximises; `own_metric` for a plug-in."""
    best: BestTrial | None = None
    controls: dict[str, float | None] = {}
    clean_estimates: dict[str, CleanEstimate | None] = {}
    """Of the controls."""


def unreadable_overview(name: str, reason: str) -> SearchOverview:
    """Returns what a list shows of a search that cannot be read."""
    return SearchOverview(name=name, state="unreadable", error=reason, trials=TrialCounts(), num_samples=0)


class SearchStatus(SearchOverview):
    """One search, as `status` shows it."""

    verdict: Verdict | None = None
    expected_gain: ExpectedGain | None = None
    """None where too few trials have finished to tell."""
    settings: dict[str, Any]


class TrialRecord(BaseModel):
    """One trial, as `trials` shows it."""

    trial: int
    state: TrialState
    control: str | None
    config: dict[str, Any]
    curve: dict[int, float | None]
    best_epoch: int | None
    clean_estimate: CleanEstimate | None = None
    """Of its latest epoch."""
    restarts: int
    node: str | None
    error: str | None
    metrics: dict[str, float | None] = {}
    """All of its latest epoch."""
