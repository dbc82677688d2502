"""What a comparison of searches shows, line by line: the same rows on the terminal and on the page."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from tune_mentormix.compare import ComparedSearch, Comparison
from tune_mentormix.console import counts_in_words, stdout
from tune_mentormix.findings import CONTROL_TITLES
from tune_mentormix.formatting import NOTHING, format_accuracy, format_duration, format_value

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


def print_comparison(comparison: Comparison) -> None:
    """The verdict and both tables."""
    stdout.print(verdict(comparison), style="bold yellow" if comparison.obstacles else None, markup=False)
    names = [search.experiment.name for search in comparison.searches]
    for rows in (result_rows(comparison), setting_rows(comparison)):
        if not rows:
            continue
        table = Table("", *names, box=None, pad_edge=False)
        for title, cells in rows:
            table.add_row(title, *map(Text, cells))
        stdout.print()
        stdout.print(table)
    if not comparison.differing:
        stdout.print("\nTheir settings are the same.")


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
        "CPU-hours": format_value(search.cost.cpu_hours),
        "GPU-hours": format_value(search.cost.gpu_hours),
        "time": format_duration(experiment.seconds),
    }
