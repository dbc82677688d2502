"""The record of every search that was sent to a cluster.

`<storage>/.submissions/NAME/0001.yaml` is the first submission of NAME; each later one has the next number, and none
is rewritten. The driver on the cluster reads its record there. The record outlives Ray's memory of the job.
"""

from __future__ import annotations

import secrets
import time
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from trainables.errors import describe_value, one_line
from tune_mentormix.config.settings import FORMAT, SearchSettings
from tune_mentormix.config.settings_file import refuse_newer
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import experiment_path
from tune_mentormix.results.made_files import MadeKind
from tune_mentormix.storage.listing import has_file, list_folder
from tune_mentormix.storage.paths import SUBMISSIONS_FOLDER, Location, write_exclusively
from tune_mentormix.storage.yaml_files import dump_yaml, read_yaml

Action = Literal["search", "resume", "confirm"] | MadeKind


class Submission(BaseModel):
    """The record of one job that was sent to a cluster."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    name: str  # of the experiment
    number: int  # of the submissions of that name, from 1
    submission_id: str  # what Ray calls the job
    submitted: float  # Unix seconds
    address: str  # of the cluster's Jobs API
    action: Action
    owner: str | None = None  # of the search
    gpus: float = 0.0  # at most, of all its trials together
    settings: dict[str, Any]  # of a search all of them; else those that it changes, and the options of `confirm`


def record_submission(
    storage: Location, name: str, address: str, action: Action, settings: SearchSettings, recorded: dict[str, Any]
) -> Submission:
    """Writes the record of what is about to be sent; on a disk, only one process can take a number.

    The search will run with `settings`, of which `recorded` are those that its driver reads.

    Raises RequestError if another process submits the same name at this moment, or the storage cannot be written.
    """
    number = max(_numbers(storage, name), default=0) + 1
    submission = Submission(
        name=name,
        number=number,
        submission_id=f"{name}-{secrets.token_hex(4)}",  # one cluster may serve several storages
        submitted=time.time(),
        address=address,
        action=action,
        owner=settings.owner,
        gpus=settings.most_gpus(),
        settings=recorded,
    )
    path = _path(storage, name, number)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_exclusively(path, dump_yaml(submission.model_dump(mode="json")))
    except FileExistsError as error:
        raise RequestError(f"{name} was submitted by another process at the same moment: see jobs") from error
    except OSError as error:
        raise RequestError(f"storage {storage} cannot be written: {one_line(error)} (--storage)") from error
    return submission


def delete_submission(storage: Location, submission: Submission) -> None:
    """Deletes the record of what could not be sent."""
    _path(storage, submission.name, submission.number).unlink(missing_ok=True)


def read_submission(storage: Location, name: str, number: int) -> Submission:
    """Reads one record. Raises RequestError if it does not exist or is damaged."""
    experiment_path(storage, name)  # refuses an unsafe name
    path = _path(storage, name, number)
    if not has_file(path):
        raise RequestError(
            f"{path} is not there: this machine sees another storage than the one that {name} was submitted from"
        )
    document = read_yaml(path)
    refuse_newer(document)
    try:
        return Submission.model_validate(document.values)
    except ValidationError as error:
        raise RequestError(f"{path} is not a submission: {describe_value(error.errors()[0])}") from error


def latest_submission(storage: Location, name: str) -> Submission | None:
    """Returns the latest record of a name, or None."""
    numbers = _numbers(storage, name)
    return read_submission(storage, name, numbers[-1]) if numbers else None


def submitted_names(storage: Location) -> list[str]:
    """Returns the sorted names of all searches that were submitted into a storage."""
    return sorted(folder.name for folder in list_folder(storage / SUBMISSIONS_FOLDER))


def _numbers(storage: Location, name: str) -> list[int]:
    stems = [path.stem for path in list_folder(storage / SUBMISSIONS_FOLDER / name) if path.name.endswith(".yaml")]
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def _path(storage: Location, name: str, number: int) -> Location:
    return storage / SUBMISSIONS_FOLDER / name / f"{number:04d}.yaml"
