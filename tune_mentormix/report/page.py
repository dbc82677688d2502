"""Writes the report of a search, and the comparison of several, as one HTML file each."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes

from trainables.errors import one_line
from tune_mentormix.config.search_space import parse_space
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import SEARCH_FILE, Experiment
from tune_mentormix.experiment.optuna_study import rebuild_study
from tune_mentormix.formatting import templates_of
from tune_mentormix.report import figures, plots
from tune_mentormix.report.label_noise import estimated_noise, label_noise, noise_rate_bound, read_label_noise
from tune_mentormix.report.suspicious_labels import suspicious_labels
from tune_mentormix.results.clean_terms import clean_estimates
from tune_mentormix.results.comparison import Comparison, result_rows, setting_rows, verdict
from tune_mentormix.results.confirmation import read_confirmation
from tune_mentormix.results.confirmation_summary import verdicts
from tune_mentormix.results.summary import control_title, standard_error, summarize
from tune_mentormix.results.verification_summary import about_verification, chosen_trial, verified_choice
from tune_mentormix.storage.paths import write_atomically
from tune_mentormix.storage.yaml_files import YamlDocument, dump_yaml

_LINE_STYLES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (7, 2, 1, 2)))
OTHER_METRICS = ("balanced_accuracy", "macro_f1", "top5_accuracy", "own_metric")  # columns, where reported
_MAX_NAME = 40  # letters in the legend; an experiment's name may have 64


class Report:
    """The content of the report of a search, finished or not, in the order of the template."""

    def __init__(self, experiment: Experiment) -> None:
        """Reads the results, and draws the figures."""
        confirmation = read_confirmation(experiment)
        winner = confirmation.winner() if confirmation else None
        searched = parse_space(YamlDocument(experiment.space, SEARCH_FILE)).distributions
        study = rebuild_study(experiment)
        last_epochs = {int(trial.config["epochs"]) for trial in experiment.trials.values()}
        self.experiment = experiment
        self.state = experiment.state()
        self.written = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        self.finding = summarize(experiment)
        choice = verified_choice(experiment)
        self.best = best = choice[0] if choice else experiment.best()
        self.verification = choice[1] if choice else None
        self.verified = about_verification(choice[1]) if choice else []
        self.trials = [experiment.trials[number] for number in sorted(experiment.trials)]
        self.estimates = list(zip(self.trials, clean_estimates(experiment, self.trials), strict=True))
        self.published = experiment.controls().get("published")
        self.published_title = control_title(self.published) if self.published else None
        self.searched = list(searched)
        reported = {name for trial in self.trials for name in trial.reports.get(trial.epoch, {})}
        self.other_metrics = [name for name in OTHER_METRICS if name in reported]
        error = standard_error(experiment, best.val_accuracy or 0.0) if best else None
        self.standard_error = error if experiment.metric == "val_accuracy" else None
        self.confirmation = confirmation
        self.verdicts = verdicts(confirmation, winner) if confirmation and winner else []
        metric = "accuracy" if experiment.metric == "val_accuracy" else experiment.settings.metric
        self.metric = metric
        self.learning_curves = plots.learning_curves(experiment)
        self.optimization_history = plots.optimization_history(study, metric)
        self.pruning = plots.pruning_statistics(experiment)
        # After the first rung, which nearly all trials reach, and after the last epoch.
        self.importances = [plots.importance_after(study, n) for n in (*experiment.rungs[:1], *last_epochs)]
        self.min_trials = plots.MIN_TRIALS
        self.parallel_coordinates = plots.parallel_coordinates(study, searched, metric)
        self.slices = plots.slices(study, searched, best, metric)
        self.mentor_curves = plots.mentor_curves(experiment)
        recorded_noise = read_label_noise(experiment)
        self.label_noise = label_noise(recorded_noise)
        self.estimated_noise = estimated_noise(experiment, recorded_noise)
        self.noise_rate_bound = noise_rate_bound(experiment)
        self.suspicious_labels = suspicious_labels(experiment)
        self.settings = dump_yaml(experiment.search_record(), width=100)


def default_report_path(experiment: Experiment) -> Path:
    """Returns where a report is written if nothing else is asked for: where it can be opened in a browser."""
    path = experiment.path
    return path / "report.html" if isinstance(path, Path) else Path(f"{experiment.name}-report.html")


def write_report(experiment: Experiment, out: Path) -> Path:
    """Writes the report of a search to the file `out` and returns it. Raises RequestError if that is impossible."""
    _refuse_folder(out)
    return _write_page(out, "report.html", report=Report(experiment))


def write_comparison(comparison: Comparison, out: Path) -> Path:
    """Writes several searches side by side, as `write_report` does it."""
    _refuse_folder(out)
    return _write_page(
        out,
        "compare.html",
        names=[experiment.name for experiment in comparison.experiments],
        comparison=comparison,
        verdict=verdict(comparison),
        results=result_rows(comparison),
        settings=setting_rows(comparison),
        leads=comparison.leads(),
        curves=_best_curves(comparison),
    )


def _refuse_folder(out: Path) -> None:
    """Raises RequestError if `out` is a folder, before any work is done for it."""
    if out.is_dir():
        raise RequestError(f"cannot write {out}: it is a folder (--out)")


def _write_page(out: Path, template: str, **values: Any) -> Path:
    environment = templates_of("tune_mentormix.report")
    style = environment.loader.get_source(environment, "style.css")[0] if environment.loader else ""
    page = environment.get_template(template).render(style=Markup(style), **values).lstrip()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, page)
    except OSError as error:
        raise RequestError(f"cannot write {out}: {one_line(error)} (--out)") from error
    return out


def _best_curves(comparison: Comparison) -> figures.Figure | None:
    """Draws the best trial of each search by epoch, the highest in colour; None before the first report."""
    shown = [(experiment.name, best) for experiment in comparison.experiments if (best := chosen_trial(experiment))]
    if not shown:
        return None
    highest = max(best.val_accuracy or 0.0 for _, best in shown)

    def plot(axes: Axes) -> None:
        for number, (name, best) in enumerate(shown):
            points = [(epoch, accuracy) for epoch, accuracy in best.curve.items() if accuracy is not None]
            colour, width = (figures.BEST, 2.2) if best.val_accuracy == highest else (figures.CONTROL, 1.3)
            style = _LINE_STYLES[number % len(_LINE_STYLES)]
            label = name if len(name) <= _MAX_NAME else f"{name[:_MAX_NAME]}…"
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=width, linestyle=style, label=label)
        axes.set_ylabel("validation accuracy")
        figures.label_epochs(axes)
        axes.grid(axis="y")
        figures.show_legend(axes, columns=1)

    return figures.draw_figure(plot, "Validation accuracy by epoch of the best trial of each search.")
