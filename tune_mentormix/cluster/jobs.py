"""Searches as jobs of a shared Ray cluster; `submissions` keeps the record of each."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import search_spaces
import trainables
import tune_mentormix
from trainables.errors import PluginError
from trainables.plugins import source_digests, source_folders
from tune_mentormix.cluster.jobs_api import ClusterError, JobsApi, NoAnswerError, is_loopback, jobs_address
from tune_mentormix.cluster.submissions import (
    Action,
    Submission,
    delete_submission,
    latest_submission,
    record_submission,
    submitted_names,
)
from tune_mentormix.config.settings import ENVIRONMENT, SearchSettings, default_name, default_owner, with_storage
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.create import changed_settings, resumed_settings, retraining_settings
from tune_mentormix.experiment.experiment import SEARCH_FILE, experiment_path, read_experiment
from tune_mentormix.experiment.schemas import SearchState
from tune_mentormix.results.confirmation import check_can_confirm, check_counts, confirmation_state
from tune_mentormix.results.made_files import KINDS, MadeKind, read_made
from tune_mentormix.storage.lease import Lease
from tune_mentormix.storage.listing import has_file
from tune_mentormix.storage.paths import Location

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

AGENT_SECONDS = 30.0  # in which a head that has just started can run a driver
STOP_SECONDS = 30  # until a driver that was asked to stop is killed
KILL_SECONDS = 15.0  # more, until Ray knows that it was killed
POLL_SECONDS = 0.5
ENDING_SECONDS = 10.0  # in which Ray notices that a driver has ended, whose results are complete
IN_FLIGHT_SECONDS = 60.0  # in which the cluster may not know a recorded search yet; clocks differ, too
ACTIVE = ("PENDING", "RUNNING")  # of Ray's states

JobState = Literal["pending", "running", "finished", "interrupted", "failed", "unreadable"]
StateOf = Callable[[Location, str], SearchState | None]  # the state of an experiment, None before it exists


@dataclass(frozen=True)
class Job:
    """A submitted search: its latest job, and its state by storage and cluster."""

    name: str  # of the experiment
    submission_id: str
    state: JobState  # pending: its driver has not started; interrupted: it can be resumed
    started: float | None  # Unix seconds; None where its record cannot be read
    ended: float | None  # where Ray remembers it
    message: str  # why it failed or cannot be read, else empty
    alive: bool  # whether it runs, or waits on the cluster to be run
    owner: str | None = None  # of the search
    gpus: float = 0.0  # at most, of all its trials together
    action: Action = "search"


def stored_state(storage: Location, name: str) -> SearchState | None:
    """Returns the state of an experiment, read from its directory; None where there is none yet."""
    exists = has_file(experiment_path(storage, name) / SEARCH_FILE)
    return read_experiment(storage, name).state() if exists else None


class ClusterJobs:
    """The jobs of one cluster whose experiments are in one storage."""

    def __init__(self, address: str | None, storage: Location, insecure: bool = False) -> None:
        """Makes no request. `address` is the URL of the dashboard, None takes it from the environment.

        `insecure` allows an unauthenticated cluster beyond loopback. Raises RequestError if the address is no such
        URL, or the storage a relative folder and the cluster elsewhere.
        """
        self.address = jobs_address(address)
        if storage != storage.absolute() and not is_loopback(self.address):
            raise RequestError(
                f"storage {storage} is a folder of this machine, and the cluster is at {self.address}: name one that "
                "both see, as an absolute path on NFS, or s3://… (--storage)"
            )
        self.storage = storage.absolute()
        self._insecure = insecure
        self._api = JobsApi(self.address, insecure)

    def command(self, words: str) -> str:
        """Returns the words of a command with the options that it needs to reach this cluster and storage."""
        return with_storage(words + self.options(), self.storage)

    def options(self) -> str:
        """Returns the options without which a command would not reach this cluster."""
        try:
            found_without = jobs_address(os.environ.get(ENVIRONMENT["dashboard"]))
        except RequestError:
            found_without = ""
        dashboard = "" if found_without == self.address else f" --dashboard {shlex.quote(self.address)}"
        return dashboard + (" --insecure" if self._insecure else "")

    def submit(self, settings: SearchSettings) -> Job:
        """Sends a new search, whose settings hold their search space and warm start in full; its name is the job's.

        Raises RequestError if the name is taken or the cluster refuses. Nothing is left behind then, unless the
        cluster did not answer and may have taken it.
        """
        name = settings.name or default_name(settings)
        path = experiment_path(self.storage, name)
        if path.exists():
            resume = self.command(f"resume {name} --submit")
            raise RequestError(f"{path} exists already; choose another --name, or resume it: {resume}")
        owner = settings.owner or default_owner()
        sent = settings.model_copy(update={"name": name, "owner": owner, "storage": self.storage, "address": None})
        return self._send(name, sent, "search", sent.model_dump(mode="json"))

    def resume(self, name: str, changes: dict[str, Any], wait: bool = True) -> Job:
        """Resumes a search, however it ended, with changed settings; one whose driver never started is sent again.

        `wait` lets a job that is ending end first. Raises RequestError if there is no such search, or it runs, or the
        changes are not allowed.
        """
        path = experiment_path(self.storage, name)
        if has_file(path / SEARCH_FILE):
            experiment = read_experiment(self.storage, name)
            Lease(path).check_free()
            settings = resumed_settings(experiment, self.storage, changes)
            return self._send(name, settings, "resume", changes, experiment.last_event, wait)
        submission = self._latest(name)
        if submission.action != "search":
            raise RequestError(f"{name} is gone from {self.storage}: submit it again")
        settings = changed_settings(submission.settings, changes)
        return self._send(name, settings, "search", settings.model_dump(mode="json"), wait=wait)

    def confirm(self, name: str, options: dict[str, Any], changes: dict[str, Any], wait: bool = True) -> Job:
        """Confirms a search, or resumes its confirmation, with changed settings and the `options` of `confirm`.

        `wait` lets a job that is ending end first. Raises RequestError if there is no such search, or nothing in it
        to confirm, or a driver runs it, or the changes are not allowed.
        """
        check_counts(options.get("top_k"), options.get("seeds"))
        experiment = read_experiment(self.storage, name)
        Lease(experiment.path).check_free()
        check_can_confirm(experiment)
        settings = retraining_settings(experiment, changes)
        return self._send(name, settings, "confirm", changes | options, experiment.last_event, wait)

    def make(self, name: str, kind: MadeKind, changes: dict[str, Any], wait: bool = True) -> Job:
        """Makes files of a search, with changed settings. Raises RequestError if no trial of it has finished.

        `wait` lets a job that is ending end first.
        """
        experiment = read_experiment(self.storage, name)
        if not experiment.finished_trials():
            raise RequestError(f"no trial of {name} has finished: there is nothing to make the {kind} of")
        if kind == "verify" and experiment.metric != "val_accuracy":
            raise RequestError(f"verify estimates accuracies, and {name} maximises {experiment.metric}: confirm it")
        settings = retraining_settings(experiment, changes).model_copy(update={"num_samples": 1})
        if kind != "refit":
            settings = settings.model_copy(update={"gpus_per_trial": 0.0, "device": "cpu"})
        return self._send(name, settings, kind, changes, experiment.last_event, wait)

    def stop(self, name: str, wait: bool = True) -> None:
        """Interrupts a search so that it can be resumed, and waits until its driver has ended or was killed.

        Raises RequestError if it does not run as a job of this cluster.
        """
        submission = self._latest(name)
        known = self._known_jobs()
        active = self._active_ids(submission, known)
        if not active:
            job = _recorded_job(self.storage, name, stored_state, known)
            state = job.state if job else "unknown"
            raise RequestError(f"{name} does not run as a job of {self.address}: it is {state}")
        with self._api.client() as client:
            for submission_id in active:
                client.stop_job(submission_id)
        deadline = time.monotonic() + STOP_SECONDS + KILL_SECONDS
        while wait and self._active_ids(submission, self._known_jobs()):
            if time.monotonic() > deadline:
                logs = self.command(f"logs {name}")
                raise RequestError(f"{name} was asked to stop, and has not yet: look at it with: {logs}")
            time.sleep(POLL_SECONDS)

    def owner(self, name: str) -> str | None:
        """Returns the owner of a submitted search. Raises RequestError if it was never submitted."""
        return self._latest(name).owner

    def jobs(self, state_of: StateOf = stored_state) -> list[Job]:
        """Returns every search that was submitted into the storage, by name. Raises ClusterError."""
        return recorded_jobs(self.storage, state_of, self._known_jobs())

    def logs(self, name: str) -> str:
        """Returns the output of the latest driver of a search. Raises RequestError if Ray no longer has it."""
        submission_id = self._known_id(name)
        with self._api.client() as client:
            return str(client.get_job_logs(submission_id))

    async def follow_logs(self, name: str) -> AsyncIterator[str]:
        """Yields the same while it is written, until the driver ends. Raises RequestError as `logs` does."""
        submission_id = self._known_id(name)
        with self._api.client() as client:
            async for lines in client.tail_job_logs(submission_id):
                yield lines

    def _send(
        self,
        name: str,
        settings: SearchSettings,
        action: Action,
        recorded: dict[str, Any],
        last_event: float = 0.0,
        wait: bool = True,
    ) -> Job:
        """Sends what runs with these settings, of which all or the changed ones are recorded."""
        code = _code_of_plugins(settings)
        self._check_inactive(name, last_event, self.await_ending(name) if wait else self._known_jobs())
        submission = record_submission(self.storage, name, self.address, action, settings, recorded)
        try:
            self._submit_job(submission, code)
        except NoAnswerError:
            raise  # its record stays: if the job was taken nevertheless, its driver reads it
        except BaseException:
            delete_submission(self.storage, submission)
            raise
        return replace(_job(submission, None, None), state="pending", alive=True)

    def _submit_job(self, submission: Submission, code: Sequence[Path]) -> None:
        record = ["submitted", submission.name, str(submission.number), "--storage", str(self.storage)]
        deadline = time.monotonic() + AGENT_SECONDS
        with runtime_env(code) as environment:
            while True:
                try:
                    with self._api.client() as client:
                        client.submit_job(
                            submission_id=submission.submission_id,
                            entrypoint=shlex.join(["python", "-m", "tune_mentormix", *record]),
                            runtime_env=environment,
                            metadata=self._metadata(submission.name),
                        )
                    return
                except ClusterError as error:
                    if "No available agent" not in str(error) or time.monotonic() > deadline:
                        raise
                time.sleep(1)

    def await_ending(self, name: str) -> dict[str, JobDetails]:
        """Waits a little until Ray notices that the latest job of a search has ended, if its results are complete.

        Returns what Ray knows of all jobs then.
        """
        latest, deadline = latest_submission(self.storage, name), time.monotonic() + ENDING_SECONDS
        known = self._known_jobs()
        while latest and self._is_ending(latest, known) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            known = self._known_jobs()
        return known

    def _check_inactive(self, name: str, last_event: float, known: dict[str, JobDetails]) -> None:
        """Raises RequestError if an earlier submission's driver runs, or may still start, without a lease as yet."""
        latest = latest_submission(self.storage, name)
        if latest is None:
            return
        if self._active_ids(latest, known):
            raise RequestError(f"{name} is submitted already, and runs: stop it first, or choose another --name")
        has_arrived = latest.submission_id in known or latest.submitted < last_event
        if not has_arrived and abs(time.time() - latest.submitted) < IN_FLIGHT_SECONDS:
            raise RequestError(
                f"{name} was submitted a moment ago, and the cluster does not know it yet: try again in a minute"
            )

    def _is_ending(self, latest: Submission, known: dict[str, JobDetails]) -> bool:
        """Whether what the latest job is for has ended, as the storage tells it, so that its job soon will."""
        job = known.get(latest.submission_id)
        stored = _stored_state(self.storage, latest, stored_state)
        return job is not None and job.status == "RUNNING" and stored not in (None, "running")

    def _known_jobs(self) -> dict[str, JobDetails]:
        """Returns what Ray knows of the jobs submitted to it, by submission ID."""
        with self._api.client() as client:
            return {job.submission_id: job for job in client.list_jobs() if job.submission_id}

    def _active_ids(self, latest: Submission, known: dict[str, JobDetails]) -> list[str]:
        """Returns the jobs of a search that run or wait: two may have met, of which the later one failed."""
        ours = self._metadata(latest.name).items()
        return [
            submission_id
            for submission_id, job in known.items()
            if job.status in ACTIVE
            and (submission_id == latest.submission_id or ours <= (job.metadata or {}).items())
        ]

    def _metadata(self, name: str) -> dict[str, str]:
        """Returns what identifies the jobs of an experiment."""
        return {"experiment": name, "storage": str(self.storage)}

    def _latest(self, name: str) -> Submission:
        experiment_path(self.storage, name)
        submission = latest_submission(self.storage, name)
        if submission is None:
            raise RequestError(f"{name} was never submitted into {self.storage}")
        return submission

    def _known_id(self, name: str) -> str:
        submission_id = self._latest(name).submission_id
        if submission_id not in self._known_jobs():
            raise RequestError(
                f"the cluster at {self.address} remembers no job of {name}, as after a restart of its head; "
                f"to see its state: {with_storage(f'status {name}', self.storage)}"
            )
        return submission_id


def recorded_jobs(
    storage: Location, state_of: StateOf = stored_state, known: dict[str, JobDetails] | None = None
) -> list[Job]:
    """Returns every search that was submitted into a storage, by name, with what Ray knows of its jobs, if given.

    One whose record or experiment cannot be read is there with the reason. Raises StorageError if the storage cannot
    be read.
    """
    return [job for name in submitted_names(storage) if (job := _recorded_job(storage, name, state_of, known or {}))]


def _recorded_job(storage: Location, name: str, state_of: StateOf, known: dict[str, JobDetails]) -> Job | None:
    submission = None
    try:
        submission = latest_submission(storage, name)
        if submission is None:
            return None
        return _job(submission, _stored_state(storage, submission, state_of), known.get(submission.submission_id))
    except RequestError as error:
        if submission is None:
            return Job(name, "", "unreadable", None, None, str(error), alive=False)
        job = _job(submission, None, known.get(submission.submission_id))
        return replace(job, state="unreadable", message=str(error))


def _stored_state(storage: Location, submission: Submission, state_of: StateOf) -> JobState | None:
    """Returns the state of what a submission is for, as the storage tells it."""
    if submission.action == "confirm":
        return confirmation_state(storage, submission.name)
    if submission.action in KINDS:
        made = read_made(storage, submission.name, submission.action)
        return made.state if made and made.began >= submission.submitted else None
    return state_of(storage, submission.name)


def _code_of_plugins(settings: SearchSettings) -> list[Path]:
    """Returns the files that a search's plug-ins need on a cluster; they are not imported here."""
    try:
        source_digests(settings.plugins())  # each is there
    except PluginError as error:
        raise RequestError(str(error)) from error
    return source_folders(settings.plugins())


def package_folders() -> list[Path]:
    """Returns the folders of our packages, which travel to the cluster with each search."""
    return [Path(str(package.__file__)).parent for package in (tune_mentormix, trainables, search_spaces)]


@contextmanager
def runtime_env(more: Iterable[Path] = ()) -> Iterator[dict[str, Any]]:
    """Yields Ray's runtime environment of a job; the folder that it names exists while the block runs.

    It holds our packages, and `more` packages and modules.
    """
    with TemporaryDirectory(prefix="tune-mentormix-") as folder:
        for source in (*package_folders(), *more):
            if source.is_dir():
                shutil.copytree(source, Path(folder) / source.name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder)
        yield {
            "working_dir": folder,
            # By default, Ray stops a job with SIGTERM and kills it three seconds later.
            "env_vars": {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)},
        }


def _job(submission: Submission, stored: JobState | None, known: JobDetails | None) -> Job:
    is_active = known is not None and known.status in ACTIVE
    if submission.action in KINDS and stored == "running" and not is_active:
        stored = "interrupted"  # it has no lease that would tell
    ended = known.end_time / 1000 if known and known.end_time else None
    state = _state(stored or "interrupted", known)
    message = _reason(known.message) if known and state == "failed" else ""
    alive = state == "running" or is_active
    return Job(
        submission.name,
        submission.submission_id,
        state,
        submission.submitted,
        ended,
        message,
        alive,
        submission.owner,
        submission.gpus,
        submission.action,
    )


def _state(state: JobState, known: JobDetails | None) -> JobState:
    """Returns the experiment's own state where it has one: Ray's job may have ended after it, or been forgotten."""
    if state != "interrupted" or known is None:
        return state
    if known.status in ACTIVE:
        return "pending"
    return "failed" if known.status == "FAILED" and known.driver_exit_code != 130 else "interrupted"


def _reason(message: str | None) -> str:
    """Returns our last line of error in Ray's message, which holds the end of the log, or else its first line."""
    lines = (message or "").strip().splitlines() or [""]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else lines[0]
