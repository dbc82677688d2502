"""Searches side by side: what was set differently, what each found, and whether the accuracies can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.schemas import SearchOverview, Verdict
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.formatting import NOTHING, format_accuracy, format_duration, format_value
from tune_mentormix.results.clean_terms import clean_estimate
from tune_mentormix.results.summary import CONTROL_TITLES, counts_in_words, paired_bound, search_overview, summarize
from tune_mentormix.results.verification_summary import verified_choice

_NOT_COMPARED = ("format", "name", "storage", "cache_dir")  # without influence on what a search finds


class ComparedSearchRecord(SearchOverview):
    """One search of a comparison in JSON."""

    finding: str
    verdict: Verdict
    cpu_hours: float
    gpu_hours: float
    seconds: float


class SearchLead(BaseModel):
    """The lead of the best of the leading search over the best of another, and how far chance could put it."""

    search: str
    """The one that leads."""
    other: str
    lead: float
    """A fraction of the validation images."""
    bound: float | None
    """The largest lead that chance explains, with a probability of 95 %; None without answers to single images."""
    images: int | None
    """On which both were compared, image by image."""

    def __str__(self) -> str:
        """Returns it as a sentence."""
        if self.lead == 0:
            return f"The best of {self.search} and the best of {self.other} are equally accurate."
        ahead = f"The best of {self.search} is {100 * self.lead:.1f} points ahead of the best of {self.other}"
        if self.bound is None or self.images is None:
            return f"{ahead}. Whether chance explains it is unknown: the answers to single images were not kept."
        chance = f"chance alone can put it up to {100 * self.bound:.1f} ahead"
        on = f"on the same {self.images:,} validation images"
        if self.lead > self.bound:
            return f"{ahead} {on}, more than chance explains ({100 * self.bound:.1f} at most)."
        return f"{ahead} {on}: it may be a tie, since {chance}."


class ComparisonRecord(BaseModel):
    """A comparison in JSON."""

    comparable: bool
    obstacles: list[str]
    reservations: list[str]
    leads: list[SearchLead]  # of the best search over each other; none where they cannot be compared
    differing: dict[str, dict[str, Any]]  # setting → its value in each search, by name
    searches: list[ComparedSearchRecord]


@dataclass(frozen=True)
class Comparison:
    """Several searches, in the order asked for."""

    experiments: list[Experiment]
    differing: dict[str, list[Any]]  # setting → its value in each search, None where it is not set
    obstacles: list[str]  # why accuracies cannot be compared; none: they can
    reservations: list[str]  # what to mind when comparing them

    def record(self) -> ComparisonRecord:
        """Returns what `compare --json` shows."""
        names = [experiment.name for experiment in self.experiments]
        return ComparisonRecord(
            comparable=not self.obstacles,
            obstacles=self.obstacles,
            reservations=self.reservations,
            leads=self.leads(),
            differing={key: dict(zip(names, values, strict=True)) for key, values in self.differing.items()},
            searches=[_search_record(experiment) for experiment in self.experiments],
        )

    def leads(self) -> list[SearchLead]:
        """Returns how far the best search is ahead of each other one that has a trial at its end.

        The bound holds for the finished trials of both searches together, each against the other search's best:
        which of them would be the best, and which search would lead, was not known before.
        """
        bests = {e.name: ranked[0] for e in self.experiments if (ranked := e.ranked_trials())}
        ended = {e.name: e.finished_trials() for e in self.experiments}
        if self.obstacles or len(bests) < 2 or any(e.metric != "val_accuracy" for e in self.experiments):
            return []  # what chance explains is known of accuracies only
        leader = max(bests, key=lambda name: bests[name].val_accuracy or 0.0)
        leads = []
        for other in (name for name in bests if name != leader):
            best, second = bests[leader], bests[other]
            pairs = [(best, second)]
            pairs += [(trial, second) for trial in ended[leader] if trial is not best]
            pairs += [(trial, best) for trial in ended[other]]
            bound, images = paired_bound(pairs) or (None, None)
            lead = (best.val_accuracy or 0.0) - (second.val_accuracy or 0.0)
            leads.append(SearchLead(search=leader, other=other, lead=lead, bound=bound, images=images))
        return leads


def compare(experiments: list[Experiment]) -> Comparison:
    """Puts at least two searches side by side."""
    return Comparison(experiments, _differing(experiments), _obstacles(experiments), _reservations(experiments))


def _search_record(experiment: Experiment) -> ComparedSearchRecord:
    summary = summarize(experiment)
    return ComparedSearchRecord(
        **search_overview(experiment).model_dump(exclude={"settings", "verdict"}),
        finding=summary.headline,
        verdict=summary.verdict(),
        cpu_hours=experiment.usage.cpu_hours,
        gpu_hours=experiment.usage.gpu_hours,
        seconds=experiment.seconds,
    )


def _obstacles(experiments: list[Experiment]) -> list[str]:
    found = []
    fingerprints = {experiment.provenance.dataset.fingerprint for experiment in experiments}
    if len(fingerprints) > 1 or "" in fingerprints:
        found.append("the images, labels or splits are not the same (their fingerprints differ)")
    if len({experiment.labels_kind for experiment in experiments}) > 1:
        kinds = ", ".join(f"{experiment.name}: {experiment.labels_kind}" for experiment in experiments)
        found.append(f"accuracies are on different kinds of validation labels ({kinds})")
    return found


def _reservations(experiments: list[Experiment]) -> list[str]:
    found = []
    if len({experiment.settings.metric for experiment in experiments}) > 1:
        metrics = ", ".join(f"{experiment.name}: {experiment.settings.metric}" for experiment in experiments)
        found.append(f"the searches maximise different metrics ({metrics})")
    epochs = sorted({str(experiment.settings.epochs) for experiment in experiments})
    if len(epochs) > 1:
        found.append(f"trials train for different numbers of epochs ({', '.join(epochs)})")
    unfinished = [experiment.name for experiment in experiments if experiment.state() != "finished"]
    if unfinished:
        found.append(f"not finished yet: {', '.join(unfinished)}")
    return found


def _differing(experiments: list[Experiment]) -> dict[str, list[Any]]:
    flat = [_flat_settings(experiment) for experiment in experiments]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    values = {key: [settings.get(key) for settings in flat] for key in keys}
    return {key: those for key, those in values.items() if any(value != those[0] for value in those)}


def _flat_settings(experiment: Experiment) -> dict[str, Any]:
    """Settings by key; those within a mapping as `space.mixup_alpha`. Versions and the commit are settings too."""
    settings = {key: value for key, value in experiment.settings_record().items() if key not in _NOT_COMPARED}
    settings |= {"commit": experiment.provenance.commit, "version": experiment.provenance.versions}
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= {f"{key}.{inner}": item for inner, item in value.items()} if isinstance(value, dict) else {key: value}
    return flat


Row = tuple[str, list[str]]  # a title, and a cell for each search


def result_rows(comparison: Comparison) -> list[Row]:
    """Returns what each search found, and at what cost."""
    columns = [_results(experiment) for experiment in comparison.experiments]
    titles = dict.fromkeys(title for column in columns for title in column)
    return [(title, [column.get(title, NOTHING) for column in columns]) for title in titles]


def setting_rows(comparison: Comparison) -> list[Row]:
    """Returns the settings that differ."""
    return [(key, [format_value(value) for value in values]) for key, values in comparison.differing.items()]


def verdict(comparison: Comparison) -> str:
    """Returns in plain words whether the accuracies can be compared."""
    if comparison.obstacles:
        return f"NOT COMPARABLE: {'; '.join(comparison.obstacles)}."
    mind = f" Mind: {'; '.join(comparison.reservations)}." if comparison.reservations else ""
    return f"Comparable: the same data, split and validation labels.{mind}"


def _results(experiment: Experiment) -> dict[str, str]:
    choice = verified_choice(experiment)
    best = choice[0] if choice else experiment.best()
    controls = experiment.controls()
    clean = choice[1].estimate_of(choice[0].number) if choice else clean_estimate(experiment, best) if best else None
    return {
        "state": experiment.state(),
        "trials": counts_in_words(experiment),
        "accuracies on": f"{experiment.labels_kind} validation labels",
        "best found": format_accuracy(best.val_accuracy) if best else NOTHING,
        **({"its metric": _metric_of(experiment, best)} if experiment.metric != "val_accuracy" else {}),
        "best, on clean labels": f"about {clean}" if clean else NOTHING,
        "at epoch": f"{best.epoch}/{best.config['epochs']} (trial {best.number})" if best else NOTHING,
        **{
            title: format_accuracy(controls[name].val_accuracy if name in controls else None)
            for name, title in CONTROL_TITLES.items()
        },
        "finding": summarize(experiment).headline,
        "epochs run": f"{experiment.epochs_run:,}",
        "CPU-hours": format_value(experiment.usage.cpu_hours),
        "GPU-hours": format_value(experiment.usage.gpu_hours),
        "time": format_duration(experiment.seconds),
    }


def _metric_of(experiment: Experiment, best: Trial | None) -> str:
    return f"{experiment.settings.metric} {format_accuracy(best.score)}" if best else NOTHING
