"""What the commands for jobs print."""

from __future__ import annotations

from datetime import datetime

from rich.table import Table

from tune_mentormix.cluster.jobs import ClusterJobs, Job, recorded_jobs
from tune_mentormix.console import print_note, stdout, storage_option
from tune_mentormix.formatting import NOTHING
from tune_mentormix.storage.paths import Location


def print_sent(job: Job, jobs: ClusterJobs, commands: str) -> None:
    """That a job was sent, and how to see what becomes of it; `commands` is how the user calls this program."""
    storage = storage_option(jobs.storage)
    stdout.print(f"{job.name} was sent to {jobs.address} as job {job.submission_id}", markup=False)
    stdout.print(f"  look     {commands} status {job.name}{storage}", markup=False)
    stdout.print(f"  follow   {commands} logs {job.name} --follow{storage}", markup=False)
    stdout.print(f"  stop     {commands} stop {job.name}{storage}", markup=False)


def print_jobs(jobs: list[Job], storage: Location) -> None:
    """All submitted searches of a storage."""
    if not jobs:
        stdout.print(f"nothing was submitted into {storage}", markup=False)
        return
    table = Table("name", "state", "submitted", "job", "note", box=None, pad_edge=False)
    for job in jobs:
        started = f"{datetime.fromtimestamp(job.started):%Y-%m-%d %H:%M}"
        table.add_row(job.name, job.state, started, job.submission_id, job.message or NOTHING)
    stdout.print(table, markup=False)


def print_stopped(name: str, storage: Location, commands: str) -> None:
    """That a driver has ended, and how to go on; it may have come to the end of its search first.

    Args:
        name: of the search.
        storage: where it lies.
        commands: how the user calls this program, for the command printed.
    """
    states = {job.name: job.state for job in recorded_jobs(storage)}
    if states[name] == "finished":
        print_note(f"{name} had finished")
    else:
        print_note(f"{name} is stopped; go on with: {commands} submit --resume {name}{storage_option(storage)}")
