"""The commands for a shared Ray cluster: submit, jobs, logs, stop; and drain, for a node that goes."""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tune_mentormix.cli import console, options
from tune_mentormix.cli.options import AsJson, Dashboard, Insecure, Name, Storage, with_settings
from tune_mentormix.config.settings import RESUMABLE, STORAGE, option_name, parse_duration
from tune_mentormix.config.settings_file import read_settings
from tune_mentormix.errors import RequestError, SearchFailedError
from tune_mentormix.formatting import NOTHING, format_duration
from tune_mentormix.results.made_files import MadeKind, made_folder

if TYPE_CHECKING:
    from tune_mentormix.cluster.jobs import ClusterJobs, Job
    from tune_mentormix.cluster.submissions import Action
    from tune_mentormix.storage.paths import Location

app = options.Commands("Cluster")
AGAIN: dict[Action, str] = {  # what continues a job that was stopped
    **{"search": "resume {}", "resume": "resume {}", "confirm": "confirm {}"},
    **{"refit": "export {} --refit", "labels": "labels {}", "verify": "verify {}"},
}


@app.with_examples(
    "submit birds --config birds.yaml --storage s3://bucket/folder",
    "submit birds --trials 50 --dashboard http://head:8265",
    "resume birds --submit --trials 100",
)
@with_settings(options.SUBMIT_OPTIONS)
def submit(
    settings: dict[str, Any],
    experiment: Annotated[str | None, options.argument("NAME", "The same as --name.")] = None,
    config: options.Config = None,
    assignments: options.Assignments = options.NOTHING_SET,
    resume: Annotated[str | None, typer.Option(hidden=True)] = None,
    confirm: Annotated[str | None, options.option("Confirm this search, as confirm NAME --submit does.")] = None,
    dashboard: Dashboard = None,
    insecure: Insecure = False,
) -> None:
    """Run a search as a job of a Ray cluster. It continues when this machine is switched off.

    To resume one: resume NAME --submit. To confirm one: confirm NAME --submit.
    """
    from tune_mentormix.cluster.jobs import ClusterJobs  # imports NumPy

    if experiment is not None and settings.setdefault("name", experiment) != experiment:
        raise RequestError(f"two names are given, {experiment} and --name {settings['name']}: leave one out")
    if confirm is not None:
        others = {"NAME": experiment, "--config": config, "--set": assignments}
        given_too = [*map(option_name, settings), *(name for name, value in others.items() if value)]
        allowed = {option_name(key) for key in (*options.RESOURCE_OPTIONS, "storage")}
        for wrong in given_too:
            if wrong not in allowed:
                raise RequestError(f"{wrong} cannot be given with --confirm: leave it out; see confirm --help")
        storage = options.parse_storage(settings.pop("storage", STORAGE))
        submit_confirmation(confirm, {}, settings, storage, dashboard, insecure)
        return
    if resume is not None:  # the spelling of earlier versions
        jobs = ClusterJobs(dashboard, options.parse_storage(settings.pop("storage", STORAGE)), insecure)
        others = {"--config": config, "--set": assignments}
        for given in [*map(option_name, settings), *(name for name, value in others.items() if value)]:
            if given not in map(option_name, RESUMABLE):
                raise RequestError(f"{given} cannot change in a resume: leave it out, or submit a new search")
        print_sent(jobs.resume(resume, settings), jobs)
        return
    asked = read_settings(config, settings, assignments)
    jobs = ClusterJobs(dashboard, asked.storage, insecure)
    from tune_mentormix.search.plan import read_space  # imports Ray

    print_sent(jobs.submit(read_space(asked)[0]), jobs)


@app.with_examples("jobs --storage s3://bucket/folder", "jobs --json", name="jobs")
def jobs_(
    storage: Storage = STORAGE, dashboard: Dashboard = None, insecure: Insecure = False, as_json: AsJson = False
) -> None:
    """Show all submitted searches and their states. Without the cluster: as recorded in the storage."""
    from tune_mentormix.cluster.jobs import ClusterJobs, recorded_jobs

    cluster = ClusterJobs(dashboard, storage, insecure)
    try:
        found = cluster.jobs()
    except RequestError as error:
        console.print_note(f"showing what is recorded in the storage, because {error}")
        found = recorded_jobs(cluster.storage)
    if as_json:
        console.print_json([asdict(job) for job in found])
    elif not found:
        console.stdout.print(f"nothing was submitted into {cluster.storage}")
    else:
        rows = []
        for job in found:
            started = console.format_time(datetime.fromtimestamp(job.started)) if job.started else NOTHING
            note = NOTHING if job.state == "unreadable" else job.message or NOTHING
            what = "search" if job.action == "resume" else job.action
            rows.append((job.name, what, job.state, started, job.submission_id, note))
        console.print_table(("name", "what", "state", "submitted", "job", "note"), rows)
        console.print_unreadable({job.name: job.message or "" for job in found if job.state == "unreadable"})


@app.with_examples("logs birds --follow")
def logs(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep showing it until the search ends.")] = False,
    storage: Storage = STORAGE,
    dashboard: Dashboard = None,
    insecure: Insecure = False,
) -> None:
    """Show the output of a submitted search."""
    from tune_mentormix.cluster.jobs import ClusterJobs

    jobs = ClusterJobs(dashboard, storage, insecure)
    if follow:

        async def follow_logs() -> None:
            async for lines in jobs.follow_logs(name):
                typer.echo(lines, nl=False)

        asyncio.run(follow_logs())
    else:
        typer.echo(jobs.logs(name), nl=False)


@app.with_examples("stop birds", "resume birds --submit")
def stop(name: Name, storage: Storage = STORAGE, dashboard: Dashboard = None, insecure: Insecure = False) -> None:
    """Interrupt a submitted search or confirmation, which can be continued: resume or confirm NAME --submit."""
    from tune_mentormix.cluster.jobs import ClusterJobs, recorded_jobs

    jobs = ClusterJobs(dashboard, storage, insecure)
    jobs.stop(name)
    job = {job.name: job for job in recorded_jobs(jobs.storage)}[name]
    if job.state == "finished":  # it may have come to its end first
        console.print_note(f"{name} had finished")
    else:
        again = console.command_line(f"{AGAIN[job.action].format(name)} --submit{jobs.options()}", jobs.storage)
        console.print_note(f"{name} is stopped; to continue: {again}")


@app.with_examples("drain --in 2m")
@with_settings(("address",))
def drain(
    settings: dict[str, Any],
    seconds: Annotated[str, typer.Option("--in", help="Time until the machine goes.", metavar="<time>")] = "30s",
    node_id: Annotated[str | None, options.option("Ray's ID of another node that goes, instead of this one.")] = None,
) -> None:
    """Move the trials of this machine to other nodes of its Ray cluster, because it is about to go.

    For the shutdown hook of a machine that may be taken away, such as a spot instance. It waits until the trials have
    left: each writes a checkpoint after the epoch that it is in.
    """
    from tune_mentormix.cluster.draining import drain_node  # imports Ray

    address = settings.get("address") or os.environ.get("RAY_ADDRESS", "auto")
    try:
        duration = parse_duration(seconds)
    except ValueError as error:
        raise RequestError(f"{error} (--in)") from error
    if not drain_node(address, node_id, duration):
        lost = "they lose what they did since their last checkpoints"
        raise SearchFailedError(f"trials still run there after {format_duration(duration)}: {lost}")
    console.print_note("no trial runs there any more")


def submit_confirmation(
    name: str,
    asked: dict[str, Any],
    settings: dict[str, Any],
    storage: Location,
    dashboard: str | None,
    insecure: bool,
) -> None:
    """Sends a confirmation to a cluster; `asked` are the options of `confirm`."""
    from tune_mentormix.cluster.jobs import ClusterJobs  # imports NumPy

    jobs = ClusterJobs(dashboard, storage, insecure)
    given = {key: value for key, value in asked.items() if value}
    print_sent(jobs.confirm(name, given, settings), jobs)


def submit_making(
    name: str, kind: MadeKind, others: dict[str, Any], storage: Location, dashboard: str | None, insecure: bool
) -> None:
    """Has a job of a cluster make files of a search; `others` are options, which choose nothing there."""
    from tune_mentormix.cluster.jobs import ClusterJobs  # imports NumPy

    for option, value in others.items():
        if value:
            raise RequestError(f"{option} cannot be given with --submit: leave it out")
    jobs = ClusterJobs(dashboard, storage, insecure)
    print_sent(jobs.make(name, kind, {}), jobs)
    console.print_note(f"it writes into {made_folder(storage, name)}")


def print_sent(job: Job, jobs: ClusterJobs) -> None:
    """Prints that a job was sent, and the commands to watch and stop it; `status` knows it once it has started."""
    console.stdout.print(f"{job.name} was sent to {jobs.address} as job {job.submission_id}")
    commands = {"status": "jobs", "follow": f"logs {job.name} --follow", "stop": f"stop {job.name}"}
    commands = {purpose: words + jobs.options() for purpose, words in commands.items()}
    console.print_commands(commands, jobs.storage)
