"""An exported folder read back: every file is checked before it is used, and none of it is executed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from trainables.data import Dataset, load_dataset
from trainables.errors import DatasetError
from trainables.files import user_path
from trainables.plugins import plugins_in
from trainables.settings import DataSettings, Settings, TrialSettings
from tune_mentormix.config.settings import check_name
from tune_mentormix.config.settings_file import refuse_newer
from tune_mentormix.config.validation import describe, with_moved_files
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import SEARCH_FILE, Experiment, read_experiment
from tune_mentormix.experiment.plugins import allow_recorded
from tune_mentormix.export.manifest import (
    CONFIG_FILE,
    MODEL_FILE,
    PROVENANCE_FILE,
    ModelRecord,
    check_file,
    read_provenance,
)
from tune_mentormix.storage.paths import Location
from tune_mentormix.storage.yaml_files import YamlDocument, read_yaml


class ExportedConfig(Settings):
    """An exported configuration, with all that it takes to train it again."""

    config: TrialSettings
    data: DataSettings
    threads: Annotated[int, Field(ge=1)]  # of torch on a CPU: another number may round differently
    fingerprint: str  # of the data
    labels: str  # which labels the validation accuracy was measured on
    plug_ins: dict[str, str] = Field(default_factory=dict)  # name → sha256 of its source

    def record(self) -> dict[str, Any]:
        """Returns what its file holds; plug-ins only if there are any, as in earlier versions."""
        return self.model_dump(mode="json", exclude=None if self.plug_ins else {"plug_ins"})


@dataclass(frozen=True)
class ExportedFolder:
    """A folder whose configuration and weights are as they were exported."""

    path: Path
    config: ExportedConfig
    model: ModelRecord
    model_sha256: str


def read_folder(
    path: Path,
    moved: dict[str, Path | None] | None = None,
    plug_ins: Collection[str] = (),
    needed: Collection[str] = ("network", "dataset"),
) -> ExportedFolder:
    """Reads an exported folder for its weights, which are checked but not loaded; `moved` as in `read_exported`.

    `plug_ins` are those that the user named, `needed` the kinds that the work with the weights needs. Raises
    RequestError if a file is missing, truncated, changed, foreign or of a newer version, has no weights, or needs a
    plug-in that was not named or is another one now.
    """
    if not path.is_dir():
        raise RequestError(f"{path} is not a folder: give the folder that export or train wrote")
    provenance = read_provenance(path)
    if provenance.model is None:
        raise RequestError(f"{path} holds no weights: {provenance.why_no_model or 'the reason was not recorded'}")
    for name in (CONFIG_FILE, MODEL_FILE):
        check_file(path, name, provenance)
    sha256 = provenance.files[MODEL_FILE].sha256
    config = read_exported(path, moved)
    allow_exported(config, plug_ins, path, needed)
    return ExportedFolder(path, config, provenance.model, sha256)


def allow_exported(
    config: ExportedConfig, plug_ins: Collection[str], path: Path, needed: Collection[str] | None = None
) -> None:
    """Allows the plug-ins that an export needs, of these kinds or of all. Raises RequestError as `read_folder`."""
    every = plugins_in(config.config.model_dump()) | plugins_in(config.data.model_dump())
    kinds = {name: kind for name, kind in every.items() if needed is None or kind in needed}
    for name, kind in kinds.items():
        if name not in plug_ins:
            raise RequestError(
                f"{path} needs {kind} {name}, code that is no part of it: install it, or put it where Python finds "
                f"it, and if you trust it, name it as a plug-in (--plug-in {name})"
            )
    allow_recorded(kinds, config.plug_ins, str(path))


def read_search_or_export(
    storage: Location, name: str, moved: dict[str, Path | None] | None = None, plug_ins: Collection[str] = ()
) -> Experiment | ExportedFolder:
    """Reads the experiment of this name, or if there is none, the exported folder at this path.

    `moved` and `plug_ins` are for a folder, as in `read_folder`. Raises RequestError if it is neither.
    """
    try:
        is_experiment = (storage / check_name(name) / SEARCH_FILE).is_file()
        folder = user_path(name)
    except ValueError:
        is_experiment, folder = False, Path(name)
    if not is_experiment and folder.is_dir():
        return read_folder(folder, moved, plug_ins)
    return read_experiment(storage, name)


def read_exported(path: Path, moved: dict[str, Path | None] | None = None) -> ExportedConfig:
    """Reads an exported configuration, from its file or the folder it was exported into.

    `moved` gives the present places of files that the data settings name, by key; None: a file did not move.
    Raises RequestError if it is no such file, a newer version wrote it, a value is wrong, or its digest is another.
    """
    file = path / CONFIG_FILE if path.is_dir() else path
    document = read_yaml(file)
    refuse_newer(document)
    required = [key for key, field in ExportedConfig.model_fields.items() if field.is_required()]
    missing = [key for key in required if key not in document.values]
    if missing:
        raise RequestError(f"{document.source} has no key {missing[0]!r}: it is no exported configuration")
    config = _validate(document)
    if file.name == CONFIG_FILE and (file.parent / PROVENANCE_FILE).exists():
        check_file(file.parent, CONFIG_FILE, read_provenance(file.parent))
    return config.model_copy(update={"data": with_moved_files(config.data, moved or {})})


def load_exported_data(exported: ExportedConfig) -> Dataset:
    """Loads the data of an exported configuration. Raises RequestError if it cannot, or they are others now."""
    try:
        dataset = load_dataset(exported.data)
    except DatasetError as error:
        raise RequestError(str(error)) from error
    if dataset.fingerprint != exported.fingerprint:
        raise RequestError(
            "the data are not those the configuration was found on (their fingerprints differ): give these with "
            "--data-dir and --labels-file"
        )
    return dataset


def _validate(document: YamlDocument) -> ExportedConfig:
    values = {key: value for key, value in document.values.items() if key in ExportedConfig.model_fields}
    try:
        return ExportedConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        section, *inner = first["loc"]
        sections: dict[Any, type[BaseModel]] = {"config": TrialSettings, "data": DataSettings}
        model = sections[section] if inner else ExportedConfig
        place = document.place(*map(str, first["loc"]))
        raise RequestError(f"{describe(first | {'loc': tuple(inner) or (section,)}, model)} ({place})") from error
