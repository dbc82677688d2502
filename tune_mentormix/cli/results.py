"""The commands for what a search found: confirm, report, compare."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tune_mentormix.cli import console, options
from tune_mentormix.cli.options import AsJson, Name, Storage, Verbose, argument, option, path_option, with_settings
from tune_mentormix.cli.progress import SearchProgress, hint, long_work
from tune_mentormix.config.settings import STORAGE
from tune_mentormix.errors import INTERRUPTED, RequestError, SearchFailedError
from tune_mentormix.experiment.experiment import read_experiment
from tune_mentormix.storage.lease import Lease

if TYPE_CHECKING:
    from tune_mentormix.results.confirmation import Confirmation

REPORT_HELP = (
    "HTML file to write. Not set: report.html in the experiment's folder; NAME-report.html for a remote one."
)
AS_BEFORE = "Not set: 5, or as before."
ABLATE_HELP = "Then train the winner with one hyperparameter at a time set back to its published value."
app = options.Commands("Results")


@app.with_examples("confirm birds", "confirm birds --top-k 3 --seeds 10 --time-budget 4h", "confirm birds --ablate")
@with_settings(options.RESOURCE_OPTIONS, defaults=False)
def confirm(
    settings: dict[str, Any],
    name: Name,
    top_k: Annotated[int | None, option(f"How many of the best configurations to train. {AS_BEFORE}")] = None,
    seeds: Annotated[int | None, option(f"How many fresh seeds, the same for all. {AS_BEFORE}")] = None,
    ablate: Annotated[bool, typer.Option("--ablate", help=ABLATE_HELP)] = False,
    storage: Storage = STORAGE,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Train the best and the controls on fresh seeds, then measure them on the test set.

    An interrupted confirmation continues when it is called again.

    The resources are those of the search where none are given; its budgets do not apply.
    """
    Lease(read_experiment(storage, name).path).check_free()  # reported at once, before torch and Ray are imported
    from tune_mentormix.cli.tables import leader_so_far, print_confirmation
    from tune_mentormix.search.confirm import confirm_search  # imports torch and Ray

    with long_work(), SearchProgress("confirm", hint("confirm")) as progress:

        def show(confirmation: Confirmation) -> None:
            progress(confirmation.runs, partial(leader_so_far, confirmation))

        confirmation = confirm_search(storage, name, top_k, seeds, settings, show, verbose, ablate)
    print_confirmation(confirmation, read_experiment(storage, name), as_json)
    if confirmation.is_complete and confirmation.winner() is None:
        raise SearchFailedError("a run of every candidate failed: there is no winner")
    if confirmation.runs.ended == "all_failing":
        raise SearchFailedError("every run failed: see the reasons above")
    if confirmation.runs.ended == "interrupted":
        raise typer.Exit(INTERRUPTED)


@app.with_examples("report birds", "report birds --out birds.html")
def report(
    name: Name,
    out: Annotated[Path | None, path_option(REPORT_HELP)] = None,
    storage: Storage = STORAGE,
) -> None:
    """Write a search's summary, tables and plots to one HTML file, also while it runs."""
    experiment = read_experiment(storage, name)
    from tune_mentormix.report.page import write_report  # imports matplotlib and Optuna

    if out is None:  # where it can be opened in a browser
        path = experiment.path
        out = path / "report.html" if isinstance(path, Path) else Path(f"{name}-report.html")
    console.print_written(write_report(experiment, out))


@app.with_examples("compare birds birds-again", "compare birds birds-again --out comparison.html")
def compare(
    names: Annotated[list[str], argument("NAME", "Two or more experiments.")],
    out: Annotated[Path | None, path_option("HTML file to write, with learning curves.")] = None,
    storage: Storage = STORAGE,
    as_json: AsJson = False,
) -> None:
    """Compare searches: settings that differ, best result, cost, and whether they can be compared."""
    if len(set(names)) < len(names) or len(names) < 2:
        raise RequestError(f"compare takes two or more different names, got {' '.join(names)}")
    from tune_mentormix.cli.tables import print_comparison
    from tune_mentormix.results.comparison import compare as compare_searches

    comparison = compare_searches([read_experiment(storage, name) for name in names])
    if as_json:
        console.print_json(comparison.record())
    else:
        print_comparison(comparison)
    if out:
        from tune_mentormix.report.page import write_comparison  # imports matplotlib and Optuna

        written = write_comparison(comparison, out)
        if not as_json:
            console.print_written(written)
