"""The commands for searches that run as jobs of a shared Ray cluster."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from tune_mentormix.cli import console
from tune_mentormix.cli import options as ask
from tune_mentormix.cli.options import STORAGE, AsJson, Name, Storage, asked_settings, command, option, parse_storage
from tune_mentormix.cli.tables import print_jobs, print_sent, print_stopped
from tune_mentormix.cluster.jobs import ClusterJobs, recorded_jobs
from tune_mentormix.cluster.jobs_api import DEFAULT_ADDRESS
from tune_mentormix.config.settings import RESUMABLE
from tune_mentormix.errors import RequestError

app = typer.Typer()

Dashboard = Annotated[
    str | None,
    option("The cluster's dashboard.", f"RAY_API_SERVER_ADDRESS, RAY_ADDRESS or {DEFAULT_ADDRESS}"),
]
Insecure = Annotated[bool, typer.Option("--insecure", help="Use a cluster that is open to everyone who reaches it.")]
OF_THE_CLUSTER = ("resume", "storage", "address", "insecure")


@app.command()
def submit(
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
    assignments: ask.Assignments = ask.NOTHING_SET,
    resume: Annotated[str | None, option("Go on with the search of this name instead.")] = None,
    address: Dashboard = None,
    insecure: Insecure = False,
) -> None:
    """Run a search as a job of a Ray cluster; this machine may go."""
    options = {key: value for key, value in locals().items() if key not in OF_THE_CLUSTER}
    if resume is None:
        settings = asked_settings(options | {"storage": storage})
        jobs = ClusterJobs(address, settings.storage, insecure)
        from tune_mentormix.search.plan import read_space  # imports Ray

        job = jobs.submit(read_space(settings)[0])
    else:
        jobs = ClusterJobs(address, STORAGE if storage is None else parse_storage(storage), insecure)
        job = jobs.resume(resume, _changes(options))
    print_sent(job, jobs, command())


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
    print_stopped(name, jobs.storage, command())


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
