"""What was submitted, kept in the storage: the driver on the cluster finds it there, and it outlives Ray's memory.

`<storage>/.submissions/NAME/0001.yaml` is the first submission of NAME, each later one has the next number; none is
ever rewritten.
"""

from __future__ import annotations

import secrets
import shlex
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

import search_spaces
import trainables
import tune_mentormix
from trainables.errors import one_line
from tune_mentormix.cluster.jobs_api import ClusterError, JobsApi, NoAnswerError, is_loopback, jobs_address
from tune_mentormix.config.settings import FORMAT, SearchSettings, default_name, refuse_newer
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.create import changed_settings, resumed_settings
from tune_mentormix.experiment.experiment import (
    SEARCH_FILE,
    SearchState,
    experiment_path,
    read_experiment,
)
from tune_mentormix.storage.lease import Lease
from tune_mentormix.storage.paths import SUBMISSIONS_FOLDER, Location, list_folder, write_exclusively
from tune_mentormix.storage.yaml_files import dump_yaml, read_yaml

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

Action = Literal["search", "resume"]


class Submission(BaseModel):
    """One job that was sent to a cluster."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    name: str  # of the experiment
    number: int  # of the submissions of that name, from 1
    submission_id: str  # what Ray calls the job
    submitted: float  # Unix seconds
    address: str  # of the cluster's Jobs API
    action: Action
    settings: dict[str, Any]  # of a search all of them, of a resume those that it changes


def record_submission(
    storage: Location, name: str, address: str, action: Action, settings: dict[str, Any]
) -> Submission:
    """Writes down what is about to be sent; on a disk, one process at a time can take a number.

    Raises:
        RequestError: if another process submits the same name at this moment, or the storage cannot be written.
    """
    number = max(_numbers(storage, name), default=0) + 1
    submission = Submission(
        name=name,
        number=number,
        submission_id=f"{name}-{secrets.token_hex(4)}",  # one cluster may serve several storages
        submitted=time.time(),
        address=address,
        action=action,
        settings=settings,
    )
    path = _path(storage, name, number)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_exclusively(path, dump_yaml(submission.model_dump(mode="json")))
    except FileExistsError as error:
        raise RequestError(f"{name} was submitted by another process at the same moment") from error
    except OSError as error:
        raise RequestError(f"storage {storage} cannot be written: {one_line(error)} (--storage)") from error
    return submission


def forget_submission(storage: Location, submission: Submission) -> None:
    """Removes the record of what could not be sent."""
    _path(storage, submission.name, submission.number).unlink(missing_ok=True)


def read_submission(storage: Location, name: str, number: int) -> Submission:
    """Reads one record. Raises RequestError if it is not there, or is no such record."""
    experiment_path(storage, name)  # a name that is safe
    path = _path(storage, name, number)
    if not path.is_file():
        raise RequestError(
            f"{path} is not there: this machine sees another storage than the one that {name} was submitted from"
        )
    document = read_yaml(path)
    refuse_newer(document)
    try:
        return Submission.model_validate(document.values)
    except ValidationError as error:
        raise RequestError(f"{path} is not a submission: {error.errors()[0]['msg']}") from error


def latest_submission(storage: Location, name: str) -> Submission | None:
    """The last one of a name, or None."""
    numbers = _numbers(storage, name)
    return read_submission(storage, name, numbers[-1]) if numbers else None


def submitted_names(storage: Location) -> list[str]:
    """All names that were ever submitted into a storage, in order."""
    return sorted(folder.name for folder in list_folder(storage / SUBMISSIONS_FOLDER))


def submitted_settings(storage: Location, submission: Submission, changes: dict[str, Any]) -> SearchSettings:
    """Of a search that was submitted and never began, with changes by key; None changes nothing.

    Raises:
        RequestError: one line that names the setting, its value and what is allowed.
    """
    return changed_settings(submission.settings, changes)


def _numbers(storage: Location, name: str) -> list[int]:
    stems = [path.stem for path in list_folder(storage / SUBMISSIONS_FOLDER / name) if path.name.endswith(".yaml")]
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def _path(storage: Location, name: str, number: int) -> Location:
    return storage / SUBMISSIONS_FOLDER / name / f"{number:04d}.yaml"


STOP_SECONDS = 30  # until a driver that was asked to stop is killed
PACKAGES = (tune_mentormix, trainables, search_spaces)


def entrypoint(storage: Location, submission: Submission) -> str:
    """The job's shell command: names the submission's record, in which everything else stands."""
    words = ["submitted", submission.name, str(submission.number), "--storage", str(storage)]
    return shlex.join(["python", "-m", "tune_mentormix", *words])


@contextmanager
def runtime_env() -> Iterator[dict[str, Any]]:
    """Ray's description of the job's environment; the folder it names is there while the block runs."""
    with TemporaryDirectory(prefix="tune-mentormix-") as folder:
        for package in PACKAGES:
            source = Path(str(package.__file__)).parent
            shutil.copytree(source, Path(folder) / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        yield {
            "working_dir": folder,
            # By itself, Ray stops a job with SIGTERM and kills it three seconds later.
            "env_vars": {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)},
        }


POLL_SECONDS = 0.5
AGENT_SECONDS = 30.0  # in which a head that has just started can run a driver
MARGIN_SECONDS = 15.0  # for a killed driver, and for Ray to notice
UNKNOWN_SECONDS = 60.0  # in which a search that was recorded may be on its way to the cluster; clocks differ, too
ALIVE = ("PENDING", "RUNNING")  # of Ray's states

JobState = Literal["pending", "running", "finished", "interrupted", "failed"]


@dataclass(frozen=True)
class Job:
    """A submitted search: its latest job, and how it stands by storage and cluster."""

    name: str  # of the experiment
    submission_id: str
    state: JobState  # pending: its driver has not begun; interrupted: `submit --resume` goes on
    started: float  # Unix seconds
    ended: float | None  # where Ray remembers it
    message: str  # why it failed, else empty
    alive: bool  # whether it takes a place: it runs, or the cluster has it to run

    def as_json(self) -> dict[str, Any]:
        """What `jobs --json` shows."""
        return asdict(self)


def stored_state(storage: Location, name: str) -> SearchState | None:
    """How an experiment stands by its directory; None where there is none yet."""
    there = (experiment_path(storage, name) / SEARCH_FILE).is_file()
    return read_experiment(storage, name).state() if there else None


StateOf = Callable[[Location, str], SearchState | None]  # of an experiment; for who has them read already


class ClusterJobs:
    """The jobs of one cluster whose experiments live in one storage."""

    def __init__(self, address: str | None, storage: Location, insecure: bool = False) -> None:
        """Settles where both are; no request is made.

        Args:
            address: of the cluster's dashboard, `http://HOST:8265`; None: as the environment says.
            storage: a folder that this machine and all nodes see, or a place in an object store.
            insecure: whether an open cluster beyond loopback may be used.

        Raises:
            RequestError: if the address is no such URL, or the storage a relative folder and the cluster elsewhere.
        """
        self.address = jobs_address(address)
        self.storage = _seen_by_the_cluster(storage, self.address)
        self._api = JobsApi(self.address, insecure)

    def submit(self, settings: SearchSettings) -> Job:
        """Sends a new search, whose settings hold their search space and warm start in full; its name is the job's.

        Raises:
            RequestError: before anything is sent, if the name is taken; or if the cluster does not take it. Nothing
                is left behind then, unless it did not answer and may have taken it.
        """
        name = settings.name or default_name(settings)
        path = experiment_path(self.storage, name)
        if path.exists():
            raise RequestError(f"{path} exists already; choose another --name, or go on with: submit --resume {name}")
        sent = settings.model_copy(update={"name": name, "storage": self.storage, "address": None})
        return self._send(name, "search", sent.model_dump(mode="json"))

    def resume(self, name: str, changes: dict[str, Any]) -> Job:
        """Goes on with a search, however it ended; one whose driver never began is sent again.

        Args:
            name: the experiment's.
            changes: settings that may differ in this run, by key; None changes nothing.

        Raises:
            RequestError: if there is no such search, or it runs, or the changes make no sense.
        """
        given = {key: value for key, value in changes.items() if value is not None and key != "address"}
        path = experiment_path(self.storage, name)
        if not (path / SEARCH_FILE).is_file():
            return self._send_again(name, given)
        experiment = read_experiment(self.storage, name)
        Lease(path).check_free()
        resumed_settings(experiment, self.storage, given)
        return self._send(name, "resume", given, experiment.last_event)

    def stop(self, name: str, wait: bool = True) -> None:
        """Interrupts a search so that it can be gone on with.

        Args:
            name: the experiment's.
            wait: until its driver has ended; it is given `STOP_SECONDS` for that.

        Raises:
            RequestError: if it does not run as a job of this cluster.
        """
        submission = self._submission(name)
        known = self._known_jobs()
        alive = self._alive(submission, known)
        if not alive:
            state = _job(submission, stored_state(self.storage, name), known.get(submission.submission_id)).state
            raise RequestError(f"{name} does not run as a job of {self.address}: it is {state}")
        with self._api.client() as client:
            for submission_id in alive:
                client.stop_job(submission_id)
        deadline = time.monotonic() + STOP_SECONDS + MARGIN_SECONDS
        while wait and self._alive(submission, known):
            if time.monotonic() > deadline:
                raise RequestError(f"{name} was asked to stop, and has not yet: look at it with: logs {name}")
            time.sleep(POLL_SECONDS)
            known = self._known_jobs()

    def jobs(self, state_of: StateOf = stored_state) -> list[Job]:
        """Every search that was submitted into the storage, by name. Raises RequestError without the cluster."""
        return _all_jobs(self.storage, self._known_jobs(), state_of)

    def logs(self, name: str) -> str:
        """What the latest driver of a search has said so far. Raises RequestError if Ray has it no more."""
        submission_id = self._known(name)
        with self._api.client() as client:
            return str(client.get_job_logs(submission_id))

    async def follow_logs(self, name: str) -> AsyncIterator[str]:
        """The same as it is said, until the driver ends. Raises RequestError as `logs` does."""
        submission_id = self._known(name)
        with self._api.client() as client:
            async for lines in client.tail_job_logs(submission_id):
                yield lines

    def _send_again(self, name: str, changes: dict[str, Any]) -> Job:
        submission = self._submission(name)
        if submission.action != "search":
            raise RequestError(f"{name} is gone from {self.storage}: submit it anew")
        settings = submitted_settings(self.storage, submission, changes)
        return self._send(name, "search", settings.model_dump(mode="json"))

    def _send(self, name: str, action: Action, settings: dict[str, Any], last_event: float = 0.0) -> Job:
        self._refuse_if_alive(name, last_event)
        submission = record_submission(self.storage, name, self.address, action, settings)
        try:
            self._submit_job(submission)
        except NoAnswerError:
            raise  # its record stays: a driver that begins nevertheless looks for it
        except BaseException:
            forget_submission(self.storage, submission)
            raise
        return Job(name, submission.submission_id, "pending", submission.submitted, None, "", alive=True)

    def _submit_job(self, submission: Submission) -> None:
        deadline = time.monotonic() + AGENT_SECONDS
        with runtime_env() as environment:
            while True:
                try:
                    with self._api.client() as client:
                        client.submit_job(
                            submission_id=submission.submission_id,
                            entrypoint=entrypoint(self.storage, submission),
                            runtime_env=environment,
                            metadata=self._metadata(submission.name),
                        )
                    return
                except ClusterError as error:
                    if "No available agent" not in str(error) or time.monotonic() > deadline:
                        raise
                time.sleep(1)

    def _known_jobs(self) -> dict[str, JobDetails]:
        """Returns what Ray knows of the jobs submitted to it, by submission ID."""
        with self._api.client() as client:
            return {job.submission_id: job for job in client.list_jobs() if job.submission_id}

    def _refuse_if_alive(self, name: str, last_event: float) -> None:
        """The driver of an earlier submission may not have come as far as to hold the experiment, or to be known."""
        known = self._known_jobs()
        latest = latest_submission(self.storage, name)
        if latest is None:
            return
        if self._alive(latest, known):
            raise RequestError(f"{name} is submitted already, and runs: stop it first, or choose another --name")
        began = latest.submission_id in known or latest.submitted < last_event
        if not began and abs(time.time() - latest.submitted) < UNKNOWN_SECONDS:
            raise RequestError(
                f"{name} was submitted a moment ago, and the cluster does not know it yet: try again in a minute"
            )

    def _alive(self, latest: Submission, known: dict[str, JobDetails]) -> list[str]:
        """Which submissions of a name the cluster runs or will: two may have met, and the later one failed."""
        ours = self._metadata(latest.name).items()
        return [
            submission_id
            for submission_id, job in known.items()
            if job.status in ALIVE and (submission_id == latest.submission_id or ours <= (job.metadata or {}).items())
        ]

    def _metadata(self, name: str) -> dict[str, str]:
        """By which the jobs of an experiment are known."""
        return {"experiment": name, "storage": str(self.storage)}

    def _submission(self, name: str) -> Submission:
        experiment_path(self.storage, name)
        submission = latest_submission(self.storage, name)
        if submission is None:
            raise RequestError(f"{name} was never submitted into {self.storage}")
        return submission

    def _known(self, name: str) -> str:
        submission = self._submission(name)
        if submission.submission_id not in self._known_jobs():
            raise RequestError(
                f"the cluster at {self.address} remembers no job of {name}, as after a restart of its head; "
                f"how it stands: status {name}"
            )
        return submission.submission_id


def recorded_jobs(storage: Location, state_of: StateOf = stored_state) -> list[Job]:
    """What the storage alone knows of every search that was submitted into it, by name."""
    return _all_jobs(storage, {}, state_of)


def _all_jobs(storage: Location, known: dict[str, JobDetails], state_of: StateOf) -> list[Job]:
    submissions = [latest_submission(storage, name) for name in submitted_names(storage)]
    return [
        _job(submission, state_of(storage, submission.name), known.get(submission.submission_id))
        for submission in submissions
        if submission
    ]


def _job(submission: Submission, stored: SearchState | None, known: JobDetails | None) -> Job:
    ended = known.end_time / 1000 if known and known.end_time else None
    state = _state(stored or "interrupted", known)
    message = _reason(known.message) if known and state == "failed" else ""
    alive = state == "running" or (known is not None and known.status in ALIVE)
    return Job(submission.name, submission.submission_id, state, submission.submitted, ended, message, alive)


def _state(state: SearchState, known: JobDetails | None) -> JobState:
    """The experiment's own word counts, where it has one: Ray's job may have ended after it, or been forgotten."""
    if state != "interrupted" or known is None:
        return state
    if known.status in ALIVE:
        return "pending"
    return "failed" if known.status == "FAILED" and known.driver_exit_code != 130 else "interrupted"


def _reason(message: str | None) -> str:
    """Ray's message holds the end of the log: our own last line of error in it, or else its first line."""
    lines = (message or "").strip().splitlines() or [""]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else lines[0]


def _seen_by_the_cluster(storage: Location, address: str) -> Location:
    if storage == storage.absolute() or is_loopback(address):
        return storage.absolute()
    raise RequestError(
        f"storage {storage} is a folder of this machine, and the cluster is at {address}: name one that both see, "
        "as an absolute path on NFS, or s3://… (--storage)"
    )
