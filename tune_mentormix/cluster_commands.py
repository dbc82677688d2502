"""The commands for searches that run as jobs of a shared Ray cluster."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from tune_mentormix import console
from tune_mentormix.cli_options import (
    NOTHING_SET,
    STORAGE,
    AsJson,
    Assignments,
    Config,
    CpusPerTrial,
    DataDirOption,
    DatasetOption,
    EpochBudget,
    Epochs,
    GpusPerTrial,
    MaxConcurrent,
    Name,
    Network,
    Noise,
    NumSamples,
    Patience,
    Precision,
    Preset,
    Sampler,
    Scheduler,
    SearchName,
    SeedOption,
    Space,
    StartFrom,
    Storage,
    StorageText,
    TimeBudget,
    Tracker,
    TrialsPerGpu,
    TrialTimeout,
    asked_settings,
    option,
    parse_storage,
)
from tune_mentormix.errors import RequestError
from tune_mentormix.job_tables import print_jobs, print_sent, print_stopped
from tune_mentormix.jobs import ClusterJobs, recorded_jobs
from tune_mentormix.jobs_api import DEFAULT_ADDRESS

app = typer.Typer()

Dashboard = Annotated[
    str | None,
    option("The cluster's dashboard.", f"RAY_API_SERVER_ADDRESS, RAY_ADDRESS or {DEFAULT_ADDRESS}"),
]
Insecure = Annotated[bool, typer.Option("--insecure", help="Use a cluster that is open to everyone who reaches it.")]
RESUMABLE = (  # what a resume may change
    "num_samples",
    "cpus_per_trial",
    "gpus_per_trial",
    "trials_per_gpu",
    "max_concurrent",
    "time_budget",
    "epoch_budget",
    "patience",
    "trial_timeout",
)
OF_THE_CLUSTER = ("resume", "storage", "address", "insecure")


@app.command()
def submit(
    config: Config = None,
    name: SearchName = None,
    space: Space = None,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    noise: Noise = None,
    network: Network = None,
    preset: Preset = None,
    precision: Precision = None,
    start_from: StartFrom = None,
    num_samples: NumSamples = None,
    epochs: Epochs = None,
    sampler: Sampler = None,
    scheduler: Scheduler = None,
    seed: SeedOption = None,
    cpus_per_trial: CpusPerTrial = None,
    gpus_per_trial: GpusPerTrial = None,
    trials_per_gpu: TrialsPerGpu = None,
    max_concurrent: MaxConcurrent = None,
    time_budget: TimeBudget = None,
    epoch_budget: EpochBudget = None,
    patience: Patience = None,
    trial_timeout: TrialTimeout = None,
    tracker: Tracker = None,
    storage: StorageText = None,
    assignments: Assignments = NOTHING_SET,
    resume: Annotated[str | None, option("Go on with the search of this name instead.")] = None,
    address: Dashboard = None,
    insecure: Insecure = False,
) -> None:
    """Run a search as a job of a Ray cluster; this machine may go."""
    options = {key: value for key, value in locals().items() if key not in OF_THE_CLUSTER}
    if resume is None:
        settings = asked_settings(options | {"storage": storage})
        jobs = ClusterJobs(address, settings.storage, insecure)
        job = jobs.submit(settings)
    else:
        jobs = ClusterJobs(address, STORAGE if storage is None else parse_storage(storage), insecure)
        job = jobs.resume(resume, _changes(options))
    print_sent(job, jobs)


@app.command(name="jobs")
def jobs_(
    storage: Storage = STORAGE, address: Dashboard = None, insecure: Insecure = False, as_json: AsJson = False
) -> None:
    """Show the searches that were submitted, and how each stands; without the cluster, as the storage tells it."""
    cluster = ClusterJobs(address, storage, insecure)
    try:
        found = cluster.jobs()
    except RequestError as error:
        console.print_note(f"as the storage tells it, for {error}")
        found = recorded_jobs(cluster.storage)
    if as_json:
        console.print_json([job.as_json() for job in found])
    else:
        print_jobs(found, cluster.storage)


@app.command()
def logs(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the search ends.")] = False,
    storage: Storage = STORAGE,
    address: Dashboard = None,
    insecure: Insecure = False,
) -> None:
    """Show what a submitted search has said."""
    jobs = ClusterJobs(address, storage, insecure)
    if follow:
        asyncio.run(_follow(jobs, name))
    else:
        typer.echo(jobs.logs(name), nl=False)


@app.command()
def stop(name: Name, storage: Storage = STORAGE, address: Dashboard = None, insecure: Insecure = False) -> None:
    """Interrupt a submitted search; `submit --resume` goes on with it."""
    jobs = ClusterJobs(address, storage, insecure)
    jobs.stop(name)
    print_stopped(name, jobs.storage)


async def _follow(jobs: ClusterJobs, name: str) -> None:
    async for lines in jobs.follow_logs(name):
        typer.echo(lines, nl=False)


def _changes(options: dict[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in options.items() if value not in (None, [])}
    other = next((key for key in given if key not in RESUMABLE), None)
    if other:
        shown = {"assignments": "--set"}.get(other, f"--{other.replace('_', '-')}")
        raise RequestError(f"{shown} cannot change in a resume: leave it out, or submit a new search")
    return given
