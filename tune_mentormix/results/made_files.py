"""What was made of an experiment on a cluster, and the state of what is being made.

`made/` in the experiment's folder holds the files of each kind, and `KIND.yaml`, which tells how far it is.
"""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from trainables.errors import describe_value
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import experiment_path
from tune_mentormix.storage.listing import has_file
from tune_mentormix.storage.paths import Location, write_atomically
from tune_mentormix.storage.yaml_files import dump_yaml, read_yaml

MadeKind = Literal["refit", "labels", "verify"]
KINDS: tuple[MadeKind, ...] = get_args(MadeKind)
MADE_FOLDER = "made"
FILES: dict[MadeKind, tuple[str, ...]] = {  # the first is what people open
    "refit": ("refit.tar",),
    "labels": ("labels.html", "labels.csv"),
    "verify": ("verify.html", "verify.csv"),
}


class MadeFiles(BaseModel):
    """How far the making of one kind of files is."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    kind: MadeKind
    state: Literal["running", "finished", "failed", "interrupted"]
    note: str = ""
    """Where it is, such as `epoch 12 of 60`; or why it failed."""
    node: str | None = None
    """The machine that makes it."""
    began: float
    """Unix seconds, as the next."""
    ended: float | None = None


def made_folder(storage: Location, name: str) -> Location:
    """Returns the folder of what was made of an experiment."""
    return experiment_path(storage, name) / MADE_FOLDER


def read_made(storage: Location, name: str, kind: MadeKind) -> MadeFiles | None:
    """Returns how far this is, None if it was never begun. Raises RequestError if that cannot be read."""
    path = made_folder(storage, name) / f"{kind}.yaml"
    if not has_file(path):
        return None
    try:
        return MadeFiles.model_validate(read_yaml(path).values)
    except ValidationError as error:
        raise RequestError(f"{path} cannot be read: {describe_value(error.errors()[0])}") from error


def write_made(storage: Location, name: str, made: MadeFiles) -> None:
    """Writes how far this is."""
    folder = made_folder(storage, name)
    folder.mkdir(exist_ok=True)
    write_atomically(folder / f"{made.kind}.yaml", dump_yaml(made.model_dump(mode="json")))
