"""The commands for a search: search, resume, status, trials, list."""

from __future__ import annotations

import csv
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tune_mentormix.cli import console, options
from tune_mentormix.cli.options import AsJson, Name, Storage, Verbose, option, with_settings
from tune_mentormix.cli.progress import SearchProgress, long_work
from tune_mentormix.config.settings import RESUMABLE, STORAGE, SearchSettings
from tune_mentormix.config.settings_file import read_settings
from tune_mentormix.errors import INTERRUPTED, RequestError
from tune_mentormix.experiment.experiment import SEARCH_FILE, experiment_path, list_experiments, read_experiment
from tune_mentormix.experiment.schemas import unreadable_overview
from tune_mentormix.formatting import format_accuracy, format_duration, format_value, visible
from tune_mentormix.results.clean_terms import explain_clean_terms
from tune_mentormix.results.made_files import KINDS, made_folder
from tune_mentormix.results.summary import check_search, search_status
from tune_mentormix.results.trial_table import CLEAN, TrialTable
from tune_mentormix.storage.lease import Lease
from tune_mentormix.storage.listing import has_file

if TYPE_CHECKING:
    from tune_mentormix.experiment.experiment import Experiment
    from tune_mentormix.search.dry_run import DryRun
    from tune_mentormix.storage.paths import Location

WATCH_SECONDS = 2.0  # between two reads of `status --watch`
app = options.Commands("Search")


@app.with_examples(
    "search",
    "search --name birds --dataset folder --data-dir birds",
    "search --config search.yaml --trials 50 --dry-run",
)
@with_settings(options.SEARCH_OPTIONS)
@long_work()
def search(
    settings: dict[str, Any],
    config: options.Config = None,
    assignments: options.Assignments = options.NOTHING_SET,
    exist_ok: Annotated[
        bool, typer.Option("--exist-ok", help="If an experiment of this name exists, resume it.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and estimate the cost; create nothing.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Search for the best MentorMix settings. Without options: on noisy handwritten digits.

    Every option is also a key of the settings file (--config).
    """
    asked = read_settings(config, settings, assignments)
    if exist_ok and asked.name is None:
        raise RequestError("--exist-ok needs a --name")
    if exist_ok and not dry_run and has_file(experiment_path(asked.storage, str(asked.name)) / SEARCH_FILE):
        _resume(asked.storage, str(asked.name), _changes(asked), verbose)
        return
    from tune_mentormix.search.plan import new_request  # imports Optuna

    request = new_request(asked)
    if dry_run:
        from tune_mentormix.search import dry_run as dry_runs  # imports torch and Ray

        _print_dry_run(dry_runs.dry_run(request, verbose))
        return
    from tune_mentormix.search.run import start_search  # imports torch and Ray

    with SearchProgress() as progress:
        experiment = start_search(request, progress, verbose)
    _end(experiment)


@app.with_examples("resume birds", "resume birds --trials 100 --time-budget 8h", "resume birds --submit")
@with_settings(options.RESUME_OPTIONS, defaults=False)
@long_work()
def resume(
    settings: dict[str, Any],
    name: Name,
    submit: Annotated[bool, typer.Option("--submit", help="Resume as a job of a Ray cluster; see submit.")] = False,
    storage: Storage = STORAGE,
    dashboard: options.Dashboard = None,
    insecure: options.Insecure = False,
    verbose: Verbose = False,
) -> None:
    """Resume an interrupted search, or extend a finished one.

    An option that is not given keeps the value that the search was started with; --trials that of the last run.
    """
    if submit:
        from tune_mentormix.cli.jobs import print_sent
        from tune_mentormix.cluster.jobs import ClusterJobs  # imports NumPy

        jobs = ClusterJobs(dashboard, storage, insecure)
        print_sent(jobs.resume(name, settings), jobs)
    else:
        _resume(storage, name, settings, verbose)


@app.command(hidden=True)
@long_work()
def submitted(name: Name, number: Annotated[int, typer.Argument(min=1)], storage: Storage = STORAGE) -> None:
    """Run a submission from its record: the command of the jobs that `submit` sends."""
    from tune_mentormix.cluster.submissions import read_submission
    from tune_mentormix.experiment.create import changed_settings

    submission = read_submission(storage, name, number)
    os.chdir(tempfile.gettempdir())  # Ray may unpack the job's folder again while the job runs
    from tune_mentormix.search.run import start_search  # imports torch and Ray

    if submission.action == "confirm":
        from tune_mentormix.cli.results import confirm_here

        changes = submission.settings | {"address": os.environ.get("RAY_ADDRESS")}
        asked = {"top_k": None, "seeds": None, "ablate": False}
        asked |= {key: changes.pop(key) for key in asked.keys() & changes.keys()}
        confirm_here(storage, name, asked, changes)
        return
    if submission.action in KINDS:
        from tune_mentormix.search.making import make_on_cluster

        changes = submission.settings | {"address": os.environ.get("RAY_ADDRESS")}
        made = make_on_cluster(storage, name, submission.action, changes, console.print_note)
        console.print_note(f"the {made.kind} of {name} is in {made_folder(storage, name)}")
        return
    if submission.action == "resume":  # on this cluster, not the one that it was started on
        _resume(storage, name, submission.settings | {"address": os.environ.get("RAY_ADDRESS")})
        return
    settings = changed_settings(submission.settings)
    with SearchProgress() as progress:  # RAY_ADDRESS leads to the cluster, and means nothing where it is resumed
        experiment = start_search(settings.model_copy(update={"address": None}), progress)
    _end(experiment)


@app.with_examples("status birds", "status birds --watch", "status birds --json")
def status(
    name: Name,
    storage: Storage = STORAGE,
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing it until the search ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the state of a search, also while it runs."""
    if watch and as_json:
        raise RequestError("--watch shows a table: leave out --json")
    experiment = read_experiment(storage, name)
    if watch:
        with SearchProgress(note="Ctrl-C ends the watching; the search continues.") as show:
            while experiment.state() == "running":
                show(experiment)
                time.sleep(WATCH_SECONDS)
                experiment = read_experiment(storage, name)
    if as_json:
        console.print_json(search_status(experiment))
    else:
        console.print_status(experiment)


@app.with_examples("trials birds --sort val_accuracy --limit 10", "trials birds --csv > trials.csv")
def trials(
    name: Name,
    sort: Annotated[str, option("Column to sort by; val_accuracy puts the best first.", "trial")] = "trial",
    limit: Annotated[int | None, typer.Option(min=1, help="Show only this many.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    storage: Storage = STORAGE,
    as_json: AsJson = False,
) -> None:
    """Show every trial of a search."""
    if as_csv and as_json:
        raise RequestError("--csv and --json are two forms: leave one out")
    experiment = read_experiment(storage, name)
    table = TrialTable(experiment)
    table.sort(sort)
    table.limit(limit)
    if as_json:
        console.print_json(table.records())
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(table.columns)
        for cells in table.cells():  # numbers in full, truth values as in YAML
            writer.writerow(_in_csv(cell) for cell in cells)
    else:
        scores = (table.metric, "val_accuracy", CLEAN)
        rows = [row | {name: format_accuracy(row[name]) for name in scores} for row in table.rows]
        console.print_table(table.columns, ([format_value(row[column]) for column in table.columns] for row in rows))
        labels = f"{experiment.labels_kind} validation labels"
        console.stdout.print(f"Accuracies are on {labels}, at each trial's latest epoch.")
        if note := explain_clean_terms([table.estimates[row["trial"]] for row in table.rows]):
            console.stdout.print(note)


@app.with_examples("list", "list --owner ann", "list --storage s3://bucket/folder --json", name="list")
def list_(
    owner: Annotated[str | None, option("Only the searches of this owner.", metavar="<name>")] = None,
    storage: Storage = STORAGE,
    as_json: AsJson = False,
) -> None:
    """Show all searches of a storage folder, the newest first."""
    found, unreadable = list_experiments(storage)
    if owner is not None:
        found, unreadable = [each for each in found if each.settings.owner == owner], {}
    found.sort(key=lambda experiment: experiment.provenance.started, reverse=True)
    if as_json:
        listed = [search_status(experiment).model_dump(exclude={"settings"}) for experiment in found]
        console.print_json([*listed, *(unreadable_overview(*each) for each in unreadable.items())])
    else:
        console.print_list(found, unreadable, storage)


def _in_csv(cell: object) -> object:
    return str(cell).lower() if isinstance(cell, bool) else visible(cell) if isinstance(cell, str) else cell


def _resume(storage: Location, name: str, changes: dict[str, Any], verbose: bool = False) -> None:
    Lease(read_experiment(storage, name).path).check_free()  # reported at once, before torch and Ray are imported
    from tune_mentormix.search.run import resume_search  # imports torch and Ray

    with SearchProgress() as progress:
        experiment = resume_search(storage, name, changes, progress, verbose)
    _end(experiment)


def _end(experiment: Experiment) -> None:
    console.print_end(experiment)
    if experiment.ended == "interrupted":
        raise typer.Exit(INTERRUPTED)
    check_search(experiment)


def _changes(asked: SearchSettings) -> dict[str, Any]:
    """Returns what a resume changes. Raises RequestError if anything else differs from the experiment."""
    from tune_mentormix.config.search_space import resolve_space  # imports Optuna
    from tune_mentormix.experiment.create import stored_settings

    begun = stored_settings(read_experiment(asked.storage, str(asked.name)))
    resolved, _ = resolve_space(asked)
    may_change = {*RESUMABLE, "address"}
    fixed = asked.model_fields_set - may_change - {"storage", "start_from", "first_trials", "earlier_results"}
    for key in sorted(fixed):
        values = getattr(resolved, key), getattr(begun, key)
        if values[0] != values[1]:
            new, old = (str(value) if isinstance(value, Path) else repr(value) for value in values)
            raise RequestError(
                f"{key} is {new}, but {asked.name} was started with {old}: leave it out, or choose another --name "
                "(--exist-ok)"
            )
    return {key: getattr(asked, key) for key in asked.model_fields_set & may_change}


def _print_dry_run(found: DryRun) -> None:
    settings, dataset = found.request.settings, found.request.dataset
    height, width, channels = dataset.train_images.shape[1:]
    images = f"{len(dataset.train_images):,} training and {len(dataset.validation_images):,} validation images"
    decoded = sum(images.nbytes for images in dataset.images_on_disk)
    kept = f" on disk ({decoded / 1e9:.1f} GB decoded)" if decoded else ""
    rows = {
        "data": f"{settings.dataset}: {images} of {height}×{width}×{channels}{kept}, "
        f"{len(dataset.class_names)} classes",
        "network": f"{settings.network}, {found.parameters:,} parameters",
        "searched": ", ".join(found.request.space.distributions),
        "resources": f"{found.concurrent} trials at a time; CPU cores of each: {settings.cpus_per_trial:g}, GPUs: "
        f"{settings.gpus():g}",
        "one epoch": f"{found.epoch_seconds:.2f} s, measured with the published setting",
        "epochs": f"about {found.expected_epochs:,} with early stopping, at most {found.max_epochs:,} "
        f"({settings.num_samples} trials of {settings.epochs})",
        "time": f"about {format_duration(found.seconds(found.expected_epochs))}, at most "
        f"{format_duration(found.seconds(found.max_epochs))}; starting trials and checkpoints come on top",
    }
    if settings.time_budget is not None:
        rows["budget"] = f"ends after {format_duration(settings.time_budget)} (--time-budget)"
    console.print_facts(rows)
    console.print_note("Dry run: everything is in order, and nothing was created.")
