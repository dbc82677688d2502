"""Searches side by side: what was set differently, what each found, and whether the accuracies can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.schemas import SearchOverview
from tune_mentormix.formatting import NOTHING, format_accuracy, format_duration, format_value
from tune_mentormix.results.summary import CONTROL_TITLES, SearchSummary, counts_in_words, summarize

_NOT_COMPARED = ("format", "name", "storage", "cache_dir")  # say nothing about what a search finds


class ComparedSearchRecord(SearchOverview):
    """One search of a comparison in JSON."""

    finding: str
    cpu_hours: float
    gpu_hours: float
    seconds: float


class ComparisonRecord(BaseModel):
    """A comparison in JSON."""

    comparable: bool
    obstacles: list[str]
    reservations: list[str]
    differing: dict[str, dict[str, Any]]  # setting → its value in each search, by name
    searches: list[ComparedSearchRecord]


@dataclass(frozen=True)
class ComparedSearch:
    """One column of the comparison."""

    experiment: Experiment
    finding: SearchSummary

    def record(self) -> ComparedSearchRecord:
        """What `compare --json` shows of it."""
        return ComparedSearchRecord(
            **self.experiment.status().model_dump(exclude={"settings"}),
            finding=self.finding.headline,
            cpu_hours=self.experiment.usage.cpu_hours,
            gpu_hours=self.experiment.usage.gpu_hours,
            seconds=self.experiment.seconds,
        )


@dataclass(frozen=True)
class Comparison:
    """Several searches, in the order asked for."""

    searches: list[ComparedSearch]
    differing: dict[str, list[Any]]  # setting → its value in each search, None where it is not set
    obstacles: list[str]  # why accuracies cannot be compared; none: they can
    reservations: list[str]  # what to mind when comparing them

    def record(self) -> ComparisonRecord:
        """What `compare --json` shows."""
        names = [search.experiment.name for search in self.searches]
        return ComparisonRecord(
            comparable=not self.obstacles,
            obstacles=self.obstacles,
            reservations=self.reservations,
            differing={key: dict(zip(names, values, strict=True)) for key, values in self.differing.items()},
            searches=[search.record() for search in self.searches],
        )


def compare(experiments: list[Experiment]) -> Comparison:
    """Puts at least two searches side by side."""
    searches = [ComparedSearch(experiment, summarize(experiment)) for experiment in experiments]
    return Comparison(searches, _differing(experiments), _obstacles(experiments), _reservations(experiments))


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
    epochs = {experiment.settings.epochs for experiment in experiments}
    if len(epochs) > 1:
        found.append(f"trials train for different numbers of epochs ({', '.join(map(str, sorted(epochs, key=str)))})")
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
        if isinstance(value, dict):
            flat |= {f"{key}.{inner}": item for inner, item in value.items()}
        else:
            flat[key] = value
    return flat


Row = tuple[str, list[str]]  # a title, and a cell for each search


def result_rows(comparison: Comparison) -> list[Row]:
    """What each search found, and at what cost."""
    columns = [_results(search) for search in comparison.searches]
    return [(title, [column[title] for column in columns]) for title in columns[0]]


def setting_rows(comparison: Comparison) -> list[Row]:
    """The settings that differ."""
    return [(key, [format_value(value) for value in values]) for key, values in comparison.differing.items()]


def verdict(comparison: Comparison) -> str:
    """Whether the accuracies can be compared, in plain words."""
    if comparison.obstacles:
        return f"NOT COMPARABLE: {'; '.join(comparison.obstacles)}."
    mind = f" Mind: {'; '.join(comparison.reservations)}." if comparison.reservations else ""
    return f"Comparable: the same data, split and validation labels.{mind}"


def _results(search: ComparedSearch) -> dict[str, str]:
    experiment = search.experiment
    best = experiment.best()
    controls = experiment.controls()
    return {
        "state": experiment.state(),
        "trials": counts_in_words(experiment),
        "accuracies on": f"{experiment.labels_kind} validation labels",
        "best found": format_accuracy(best.val_accuracy) if best else NOTHING,
        "at epoch": f"{best.epoch}/{best.config['epochs']} (trial {best.number})" if best else NOTHING,
        **{
            title: format_accuracy(controls[name].val_accuracy if name in controls else None)
            for name, title in CONTROL_TITLES.items()
        },
        "finding": search.finding.headline,
        "epochs run": f"{experiment.epochs_run:,}",
        "CPU-hours": format_value(search.experiment.usage.cpu_hours),
        "GPU-hours": format_value(search.experiment.usage.gpu_hours),
        "time": format_duration(experiment.seconds),
    }
