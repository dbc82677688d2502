"""What was submitted, kept in the storage: the driver on the cluster finds it there, and it outlives Ray's memory.

`<storage>/.submissions/NAME/0001.yaml` is the first submission of NAME, each later one has the next number; none is
ever rewritten.
"""

from __future__ import annotations

import secrets
import time
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from tune_mentormix.config.settings import FORMAT, SearchSettings, refuse_newer
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.create import stored_settings
from tune_mentormix.experiment.experiment import Experiment, experiment_path
from tune_mentormix.storage.paths import SUBMISSIONS_FOLDER, Location, RemotePath
from tune_mentormix.storage.yaml_files import read_yaml

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
    text = yaml.safe_dump(submission.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(path, RemotePath):
            path.write_bytes(text.encode())
        else:
            with path.open("x", encoding="utf-8") as stream:
                stream.write(text)
    except FileExistsError as error:
        raise RequestError(f"{name} was submitted by another process at the same moment") from error
    except OSError as error:
        raise RequestError(f"storage {storage} cannot be written: {error.strerror} (--storage)") from error
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
    return sorted(folder.name for folder in _below(storage / SUBMISSIONS_FOLDER))


def submitted_settings(storage: Location, submission: Submission, changes: dict[str, Any]) -> SearchSettings:
    """Of a search that was submitted and never began, with changes by key; None changes nothing.

    Raises:
        RequestError: one line that names the setting, its value and what is allowed.
    """
    never_begun = Experiment(experiment_path(storage, submission.name), submission.settings)
    return stored_settings(never_begun, changes)


def _numbers(storage: Location, name: str) -> list[int]:
    stems = [path.stem for path in _below(storage / SUBMISSIONS_FOLDER / name) if path.name.endswith(".yaml")]
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def _below(folder: Location) -> list[Location]:
    if not isinstance(folder, RemotePath) and not folder.is_dir():
        return []
    return list(folder.iterdir())


def _path(storage: Location, name: str, number: int) -> Location:
    return storage / SUBMISSIONS_FOLDER / name / f"{number:04d}.yaml"
