"""Collects the contents of a report, and writes it as one HTML file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from trainables.errors import one_line
from tune_mentormix.config.search_space import parse_space
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import SEARCH_FILE, Experiment, Trial
from tune_mentormix.experiment.optuna_study import rebuild_study
from tune_mentormix.report.figures import Figure
from tune_mentormix.report.html import templates_of
from tune_mentormix.report.label_noise import LabelNoise, label_noise, noise_rate_bound
from tune_mentormix.report.plots import (
    MIN_TRIALS,
    Importance,
    PruningStatistics,
    importance_after,
    learning_curves,
    mentor_curves,
    optimization_history,
    parallel_coordinates,
    pruning_statistics,
    slices,
)
from tune_mentormix.results.ablation import AblationRow, ablation_rows, read_ablation
from tune_mentormix.results.confirmation import (
    Confirmation,
    ConfirmedRow,
    confirmed_rows,
    read_confirmation,
    verdicts,
)
from tune_mentormix.results.summary import SearchSummary, standard_error, summarize
from tune_mentormix.storage.paths import write_atomically
from tune_mentormix.storage.yaml_files import YamlDocument, dump_yaml


@dataclass(frozen=True)
class Report:
    """What the template shows, in its order."""

    experiment: Experiment
    state: str
    written: str
    finding: SearchSummary
    best: Trial | None
    published: Trial | None
    confirmation: Confirmation | None
    confirmed_rows: list[ConfirmedRow]
    verdicts: list[str]  # of the confirmation; none before it has a winner
    standard_error: float | None
    searched: list[str]
    learning_curves: Figure | None
    optimization_history: Figure | None
    pruning: PruningStatistics
    importances: list[Importance]
    ablation: list[AblationRow]
    min_trials: int
    parallel_coordinates: Figure | None
    slices: list[Figure]
    mentor_curves: list[Figure]
    label_noise: LabelNoise | None
    noise_rate_bound: float | None
    trials: list[Trial]
    settings: str  # search.yaml


def write_report(experiment: Experiment, out: Path) -> Path:
    """Writes the report of a search, finished or not, to the file `out`, and returns its path.

    Raises:
        RequestError: if the file cannot be written.
    """
    refuse_folder(out)
    return write_page(out, "report.html", report=build_report(experiment))


def refuse_folder(out: Path) -> None:
    """Raises RequestError if `out` is a folder, before any work is done for it."""
    if out.is_dir():
        raise RequestError(f"cannot write {out}: it is a folder (--out)")


def write_page(out: Path, template: str, **values: Any) -> Path:
    """Renders a template of this package to the file `out`. Raises RequestError if it cannot be written."""
    environment = templates_of("tune_mentormix.report")
    style = environment.loader.get_source(environment, "style.css")[0] if environment.loader else ""
    page = environment.get_template(template).render(style=Markup(style), **values).lstrip()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, page)
    except OSError as error:
        raise RequestError(f"cannot write {out}: {one_line(error)} (--out)") from error
    return out


def build_report(experiment: Experiment) -> Report:
    """Reads the results of a search, and draws the figures."""
    finding = summarize(experiment)
    best = experiment.best()
    confirmation = read_confirmation(experiment)
    ablation = read_ablation(experiment)
    winner = confirmation.winner() if confirmation else None
    space = parse_space(YamlDocument(experiment.space, SEARCH_FILE))
    study = rebuild_study(experiment)
    trials = [experiment.trials[number] for number in sorted(experiment.trials)]
    record = experiment.settings_record() | {"provenance": experiment.provenance.model_dump(mode="json")}
    return Report(
        experiment=experiment,
        state=experiment.state(),
        written=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        finding=finding,
        best=best,
        published=next((trial for trial in trials if trial.control == "published"), None),
        confirmation=confirmation,
        confirmed_rows=confirmed_rows(confirmation) if confirmation else [],
        verdicts=verdicts(confirmation, winner) if confirmation and winner else [],
        standard_error=standard_error(experiment, best.val_accuracy or 0.0) if best else None,
        searched=list(space.distributions),
        learning_curves=learning_curves(experiment),
        optimization_history=optimization_history(study),
        pruning=pruning_statistics(experiment),
        importances=[importance_after(study, epoch) for epoch in _epochs_compared(experiment)],
        ablation=ablation_rows(ablation, best) if ablation and best else [],
        min_trials=MIN_TRIALS,
        parallel_coordinates=parallel_coordinates(study, space.distributions),
        slices=slices(study, space.distributions, best),
        mentor_curves=mentor_curves(experiment),
        label_noise=label_noise(experiment),
        noise_rate_bound=noise_rate_bound(experiment),
        trials=trials,
        settings=dump_yaml(record, width=100),
    )


def _epochs_compared(experiment: Experiment) -> list[int]:
    """The first rung, which nearly all trials reach, and the last epoch."""
    return [*experiment.rungs[:1], *{int(trial.config["epochs"]) for trial in experiment.trials.values()}]
