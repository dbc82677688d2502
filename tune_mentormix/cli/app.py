"""The commands: each parses, calls and prints. Exit codes: 0 done, 1 failed, 2 wrong request, 130 interrupted."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Annotated, Any

import typer

from tune_mentormix.cli import admin as service_commands
from tune_mentormix.cli import admin as upkeep_commands
from tune_mentormix.cli import console
from tune_mentormix.cli import jobs as cluster_commands
from tune_mentormix.cli import options as ask
from tune_mentormix.cli import results as result_commands
from tune_mentormix.cli.options import STORAGE, AsJson, Name, Storage, Verbose, asked_settings, command
from tune_mentormix.cli.progress import SearchProgress
from tune_mentormix.cluster.jobs import read_submission, submitted_settings
from tune_mentormix.errors import DONE, FAILED, INTERRUPTED, WRONG_REQUEST, RequestError, SearchFailedError
from tune_mentormix.experiment.experiment import Experiment, list_experiments, read_experiment
from tune_mentormix.storage.lease import Lease
from tune_mentormix.storage.paths import StorageError

app = typer.Typer(
    help="Find the MentorMix settings for your noisy-labelled images. Without a command: search.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(result_commands.app)
app.add_typer(cluster_commands.app)
app.add_typer(service_commands.app)
app.add_typer(upkeep_commands.app)


@app.command()
def search(
    config: ask.Config = None,
    name: ask.SearchName = None,
    space: ask.Space = None,
    dataset: ask.DatasetOption = None,
    data_dir: ask.DataDirOption = None,
    noise: ask.Noise = None,
    network: ask.Network = None,
    preset: ask.Preset = None,
    precision: ask.Precision = None,
    start_from: ask.StartFrom = None,
    num_samples: ask.NumSamples = None,
    epochs: ask.Epochs = None,
    sampler: ask.Sampler = None,
    scheduler: ask.Scheduler = None,
    seed: ask.SeedOption = None,
    cpus_per_trial: ask.CpusPerTrial = None,
    gpus_per_trial: ask.GpusPerTrial = None,
    max_concurrent: ask.MaxConcurrent = None,
    time_budget: ask.TimeBudget = None,
    epoch_budget: ask.EpochBudget = None,
    patience: ask.Patience = None,
    trial_timeout: ask.TrialTimeout = None,
    tracker: ask.Tracker = None,
    storage: ask.StorageText = None,
    address: ask.Address = None,
    assignments: ask.Assignments = ask.NOTHING_SET,
    verbose: Verbose = False,
) -> None:
    """Run a search; without options, on noisy handwritten digits."""
    settings = asked_settings(locals())
    from tune_mentormix.search.run import start_search  # imports torch and Ray

    with SearchProgress() as progress:
        experiment = start_search(settings, progress, verbose)
    _end(experiment)


@app.command()
def resume(
    name: Name,
    num_samples: ask.NumSamples = None,
    time_budget: ask.TimeBudget = None,
    epoch_budget: ask.EpochBudget = None,
    patience: ask.Patience = None,
    trial_timeout: ask.TrialTimeout = None,
    cpus_per_trial: ask.CpusPerTrial = None,
    gpus_per_trial: ask.GpusPerTrial = None,
    max_concurrent: ask.MaxConcurrent = None,
    storage: Storage = STORAGE,
    address: ask.Address = None,
    verbose: Verbose = False,
) -> None:
    """Go on with an interrupted search, or extend a finished one."""
    changes = {key: value for key, value in locals().items() if key not in ("name", "storage", "verbose")}
    Lease(read_experiment(storage, name).path).check_free()  # said at once, before torch and Ray are imported
    from tune_mentormix.search.run import resume_search  # imports torch and Ray

    with SearchProgress() as progress:
        experiment = resume_search(storage, name, changes, progress, verbose)
    _end(experiment)


@app.command(hidden=True)
def submitted(name: Name, number: Annotated[int, typer.Argument(min=1)], storage: Storage = STORAGE) -> None:
    """Do what a submission's record says; `submit` has a cluster run this."""
    submission = read_submission(storage, name, number)
    os.chdir(tempfile.gettempdir())  # Ray may unpack the job's own folder anew while it runs
    from tune_mentormix.search.run import (
        resume_search,  # imports torch and Ray
        start_search,
    )

    with SearchProgress() as progress:
        if submission.action == "resume":
            joined = {"address": os.environ.get("RAY_ADDRESS")}  # whatever cluster the search was begun on
            experiment = resume_search(storage, name, submission.settings | joined, progress)
        else:  # joins by RAY_ADDRESS, which means nothing to whoever goes on with the search later
            settings = submitted_settings(storage, submission, {})
            experiment = start_search(settings.model_copy(update={"address": None}), progress)
    _end(experiment)


@app.command()
def status(name: Name, storage: Storage = STORAGE, as_json: AsJson = False) -> None:
    """Show how a search stands; also while it runs."""
    experiment = read_experiment(storage, name)
    if as_json:
        console.print_json(experiment.status())
    else:
        console.print_status(experiment)


@app.command()
def trials(name: Name, storage: Storage = STORAGE, as_json: AsJson = False) -> None:
    """Show every trial of a search."""
    experiment = read_experiment(storage, name)
    if as_json:
        console.print_json([experiment.trials[number].as_json() for number in sorted(experiment.trials)])
    else:
        console.print_trials(experiment)


@app.command(name="list")
def list_(storage: Storage = STORAGE, as_json: AsJson = False) -> None:
    """Show all searches of a storage folder."""
    experiments = list_experiments(storage)
    if as_json:
        console.print_json([_without_settings(experiment) for experiment in experiments])
    else:
        console.print_list(experiments, storage)


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:] or ["search"]))


def run(arguments: list[str]) -> int:
    """Runs one command and returns its exit code; whatever a user can cause ends in one line on stderr."""
    console.show_log()
    try:
        return int(app(arguments, standalone_mode=False) or DONE)
    except typer.TyperException as error:
        console.print_error(error.format_message())
        return WRONG_REQUEST
    except RequestError as error:
        console.print_error(str(error))
        return WRONG_REQUEST
    except StorageError as error:
        console.print_error(f"{error} (--storage)")
        return WRONG_REQUEST
    except SearchFailedError as error:
        console.print_error(str(error))
        return FAILED


def _end(experiment: Experiment) -> None:
    console.print_end(experiment, command())
    if experiment.ended == "interrupted":
        raise typer.Exit(INTERRUPTED)
    trials = experiment.trials.values()
    failed = [trial for trial in trials if trial.state == "failed"]
    if failed and (experiment.ended == "all_failing" or len(failed) == len(trials)):
        raise SearchFailedError(f"every trial failed; the first, trial {failed[0].number}: {failed[0].error}")


def _without_settings(experiment: Experiment) -> dict[str, Any]:
    return {key: value for key, value in experiment.status().items() if key != "settings"}
