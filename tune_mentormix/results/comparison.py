"""Searches side by side: what was set differently, what each found, and whether the accuracies can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.schemas import SearchOverview, Verdict
from tune_mentormix.formatting import NOTHING, format_accuracy, format_duration, format_value
from tune_mentormix.results.clean_terms import clean_estimate
from tune_mentormix.results.summary import CONTROL_TITLES, counts_in_words, summarize

_NOT_COMPARED = ("format", "name", "storage", "cache_dir")  # without influence on what a search finds


class ComparedSearchRecord(SearchOverview):
    """One search of a comparison in JSON."""

    finding: str
    verdict: Verdict
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
            differing={key: dict(zip(names, values, strict=True)) for key, values in self.differing.items()},
            searches=[_search_record(experiment) for experiment in self.experiments],
        )


def compare(experiments: list[Experiment]) -> Comparison:
    """Puts at least two searches side by side."""
    return Comparison(experiments, _differing(experiments), _obstacles(experiments), _reservations(experiments))


def _search_record(experiment: Experiment) -> ComparedSearchRecord:
    summary = summarize(experiment)
    return ComparedSearchRecord(
        **experiment.status().model_dump(exclude={"settings", "verdict"}),
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
    return [(title, [column[title] for column in columns]) for title in columns[0]]


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
    best = experiment.best()
    controls = experiment.controls()
    clean = clean_estimate(experiment, best) if best else None
    return {
        "state": experiment.state(),
        "trials": counts_in_words(experiment),
        "accuracies on": f"{experiment.labels_kind} validation labels",
        "best found": format_accuracy(best.val_accuracy) if best else NOTHING,
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
