"""The commands for what a search found: confirm, report, compare, labels."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tune_mentormix.cli import console, options
from tune_mentormix.cli.options import (
    AsJson,
    Dashboard,
    Insecure,
    Name,
    PlugIns,
    Storage,
    Verbose,
    argument,
    complete_name,
    option,
    path_option,
    with_settings,
)
from tune_mentormix.cli.progress import SearchProgress, hint, long_work
from tune_mentormix.config.settings import STORAGE
from tune_mentormix.errors import INTERRUPTED, RequestError
from tune_mentormix.experiment.experiment import read_experiment
from tune_mentormix.storage.lease import Lease

if TYPE_CHECKING:
    from tune_mentormix.results.confirmation import Confirmation
    from tune_mentormix.storage.paths import Location

REPORT_HELP = (
    "HTML file to write. Not set: report.html in the experiment's folder; NAME-report.html for a remote one."
)
AS_BEFORE = "Not set: 5, or as before."
LABELS_HELP = (
    "CSV file to write: each training image, its given and suggested label, score, rank and whether out of fold."
)
WRITE_HELP = (
    "Label file to write, for search --labels-file: as given, but for the labels chosen by --worst or --above."
)
PAGE_HELP = "HTML page to write: the most suspicious images with both labels, by class. It loads nothing."
PROBABILITIES_HELP = "NumPy file (.npy) to write, for cleanlab and FiftyOne: probabilities in the order of --out."
MOVED_HELP = "Where the {} is now. Not set: as in the search."
ABLATE_HELP = "Then train the winner with one hyperparameter at a time set back to its published value."
Fix = Literal["replace", "drop"]
app = options.Commands("Results")


@app.with_examples(
    "confirm birds",
    "confirm birds --top-k 3 --seeds 10 --time-budget 4h",
    "confirm birds --ablate",
    "confirm birds --submit",
)
@with_settings(options.RESOURCE_OPTIONS, defaults=False)
def confirm(
    settings: dict[str, Any],
    name: Name,
    top_k: Annotated[int | None, option(f"How many of the best configurations to train. {AS_BEFORE}")] = None,
    seeds: Annotated[int | None, option(f"How many fresh seeds, the same for all. {AS_BEFORE}")] = None,
    ablate: Annotated[bool, typer.Option("--ablate", help=ABLATE_HELP)] = False,
    submit: Annotated[bool, typer.Option("--submit", help="Confirm as a job of a Ray cluster; see submit.")] = False,
    storage: Storage = STORAGE,
    dashboard: Dashboard = None,
    insecure: Insecure = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Train the best and the controls on fresh seeds, then measure them on the test set.

    An interrupted confirmation continues when it is called again.

    The resources are those of the search where none are given; its budgets do not apply.
    """
    asked = {"top_k": top_k, "seeds": seeds, "ablate": ablate}
    if submit:
        from tune_mentormix.cli.jobs import submit_confirmation

        submit_confirmation(name, asked, settings, storage, dashboard, insecure)
    else:
        confirm_here(storage, name, asked, settings, as_json, verbose)


def confirm_here(
    storage: Location,
    name: str,
    asked: dict[str, Any],
    settings: dict[str, Any],
    as_json: bool = False,
    verbose: bool = False,
) -> None:
    """Confirms a search in this process, and prints what was found; `asked` are top_k, seeds and ablate."""
    Lease(read_experiment(storage, name).path).check_free()  # reported at once, before torch and Ray are imported
    from tune_mentormix.cli.tables import leader_so_far, print_confirmation
    from tune_mentormix.results.confirmation_summary import check_confirmation
    from tune_mentormix.search.confirm import confirm_search  # imports torch and Ray

    with long_work(), SearchProgress("confirm", hint("confirm")) as progress:

        def show(confirmation: Confirmation) -> None:
            progress(confirmation.runs, partial(leader_so_far, confirmation))

        confirmation = confirm_search(storage, name, changes=settings, progress=show, verbose=verbose, **asked)
    print_confirmation(confirmation, read_experiment(storage, name), as_json)
    check_confirmation(confirmation)
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
    from tune_mentormix.report.page import default_report_path, write_report  # imports matplotlib and Optuna

    console.print_written(write_report(experiment, out or default_report_path(experiment)))


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


@app.with_examples(
    "labels birds --out labels.csv",
    "labels birds --write corrected.csv --worst 200",
    "labels best --data-dir ~/birds --write corrected.csv --above 0.9 --fix drop",
)
def labels(
    name: Annotated[
        str, argument("NAME", "Experiment name, or folder that export or train wrote.", autocompletion=complete_name)
    ],
    out: Annotated[Path | None, path_option(LABELS_HELP)] = None,
    write: Annotated[Path | None, path_option(WRITE_HELP)] = None,
    worst: Annotated[int | None, option("Change so many labels, the most suspicious ones.")] = None,
    above: Annotated[float | None, option("Change the labels with a score above this, 0 to 1.")] = None,
    fix: Annotated[Fix, typer.Option(help="Replace labels by the suggested ones, or drop their images.")] = "replace",
    pred_probs: Annotated[Path | None, path_option(PROBABILITIES_HELP)] = None,
    page: Annotated[Path | None, path_option(PAGE_HELP)] = None,
    data_dir: Annotated[Path | None, path_option(MOVED_HELP.format("dataset"))] = None,
    labels_file: Annotated[Path | None, path_option(MOVED_HELP.format("label file"))] = None,
    plug_in: PlugIns = None,
    submit: Annotated[bool, typer.Option("--submit", help="Find them as a job of a Ray cluster.")] = False,
    storage: Storage = STORAGE,
    dashboard: Dashboard = None,
    insecure: Insecure = False,
) -> None:
    """Find the labels that are probably wrong, and write a corrected label file."""
    if submit:
        from tune_mentormix.cli.jobs import submit_making

        files = {"--out": out, "--write": write, "--pred-probs": pred_probs, "--page": page}
        moved_to = {"--data-dir": data_dir, "--labels-file": labels_file, "--plug-in": plug_in}
        submit_making(name, "labels", files | moved_to, storage, dashboard, insecure)
        return
    _check_files(out, write, pred_probs, page)
    if write and worst is None and above is None:
        raise RequestError("--write needs --worst N or --above SCORE: which labels to change")
    if not write and (worst is not None or above is not None):
        raise RequestError("--worst and --above choose the labels to change in a new label file: add --write FILE")
    from tune_mentormix.export.read import read_search_or_export

    moved = {"data_dir": data_dir, "labels_file": labels_file}
    found = read_search_or_export(storage, name, moved, plug_in or ())
    from tune_mentormix.cli.tables import print_correction, print_labels
    from tune_mentormix.export.predictions import suspicious_labels  # imports torch

    table = suspicious_labels(found, moved)
    correction = table.correct(fix, worst, above) if write else None  # may refuse, before anything is written
    print_labels(table)
    if out:
        table.write_csv(out)
        console.print_written(out)
    if pred_probs:
        table.write_probabilities(pred_probs)
        console.print_written(pred_probs)
    if page:
        from tune_mentormix.report.suspicious_labels import write_labels_page

        write_labels_page(table, name, page, out)
        console.print_written(page)
    if write and correction:
        correction.write(write)
        print_correction(correction, write)


def _check_files(out: Path | None, write: Path | None, pred_probs: Path | None, page: Path | None) -> None:
    """Raises RequestError if these files cannot be written, before any work is done for them."""
    files = {"--out": out, "--write": write, "--pred-probs": pred_probs, "--page": page}
    for option_name, path in files.items():
        if path and path.is_dir():
            raise RequestError(f"cannot write {path}: it is a folder ({option_name})")
    given = [path.absolute() for path in files.values() if path]
    if len(set(given)) < len(given):
        raise RequestError("--out, --write, --pred-probs and --page must be different files")
    if pred_probs and not out:
        raise RequestError("--pred-probs needs --out FILE, which tells whose probabilities each row holds")
    if write and write.suffix.lower() != ".csv":
        raise RequestError(f"a corrected label file is CSV, so its name must end in .csv, got {write} (--write)")
    if write and write.exists():
        raise RequestError(f"{write} exists already: choose another name, or remove it (--write)")
