"""SearchSettings: what `search.yaml` holds and every option of `search` sets, checked once, here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from trainables.settings import PRESETS, DataSettings, NetworkName, Seed, TrialSettings, UserPath
from tune_mentormix.config.validation import describe
from tune_mentormix.errors import RequestError
from tune_mentormix.storage.paths import Location, as_location
from tune_mentormix.storage.yaml_files import YamlDocument, parse_yaml, read_yaml

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
FORMAT = 1  # of search.yaml, the journal and exported configurations; a newer one is refused
BUDGETS = ("time_budget", "epoch_budget", "patience")  # of the search, not of what is trained after it
# What may change between two runs of one search, besides the cluster that it runs on.
RESUMABLE = (
    *("num_samples", "time_budget", "epoch_budget", "patience", "trial_timeout"),
    *("max_concurrent", "cpus_per_trial", "gpus_per_trial"),
)
RECORD_KEYS = ("format", "provenance")  # what an experiment's own search.yaml holds besides settings
SEARCH_WIDE = frozenset({"network", "epochs", "seed"})  # of the trial's settings: one for the whole search
TrackerName = Literal["wandb", "mlflow"]
PresetName = Literal["reference", "paper"]
SamplerName = Literal["tpe", "gp", "cmaes", "random", "grid", "qmc"]
SchedulerName = Literal["asha", "none"]
Seconds = Annotated[float, Field(gt=0)]
StorageSetting = Annotated[
    Location,
    PlainValidator(as_location),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string"}),
]
DEMONSTRATION_NOISE = 0.4  # of the digits
SECONDS_PER_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class SearchSettings(DataSettings):
    """One search: its data (inherited), the budget, how trials are proposed and stopped, and where they run."""

    name: str | None = None  # None: the dataset and the time
    space: str | dict[str, Any] = "default"
    network: NetworkName = "small_cnn"
    epochs: Annotated[int, Field(ge=1)] = 60
    preset: PresetName | None = None  # how a step is computed; `trial` and the space win over it
    trial: dict[str, Any] = Field(default_factory=dict)  # other settings that all trials share
    start_from: UserPath | None = None  # an exported configuration, or an earlier experiment's folder
    first_trials: list[dict[str, Any]] = Field(default_factory=list)  # what was found there
    num_samples: Annotated[int, Field(ge=1)] = 20  # trials in all, the controls among them
    sampler: SamplerName = "tpe"
    scheduler: SchedulerName = "asha"
    grace_period: Annotated[int | None, Field(ge=1)] = None  # epochs; None: just above the longest burn-in
    reduction_factor: Annotated[float, Field(ge=2)] = 2.0  # of the trials at a rung, 1 in this many go on
    seed: Seed = 0
    cpus_per_trial: Annotated[float, Field(gt=0)] = 1.0
    gpus_per_trial: Annotated[float | None, Field(ge=0)] = None  # None: one, where a node has any; else none
    max_concurrent: Annotated[int | None, Field(ge=1)] = None  # None: as many as fit
    time_budget: Seconds | None = None  # of one run
    epoch_budget: Annotated[int | None, Field(ge=1)] = None  # of all trials together, the controls among them
    patience: Annotated[int | None, Field(ge=1)] = None  # trials without a better result
    trial_timeout: Seconds | None = None  # without a report, until a trial counts as hung
    checkpoint_every: Annotated[int | None, Field(ge=1)] = None  # epochs; None: ten times in a trial
    max_restarts: Annotated[int, Field(ge=0)] = 3  # of a trial whose worker was lost
    tracker: list[TrackerName] = Field(default_factory=list)  # besides TensorBoard
    storage: StorageSetting = Path("results")
    address: str | None = None  # of a Ray cluster; None: this machine

    @model_validator(mode="before")
    @classmethod
    def _drop_trials_per_gpu(cls, values: Any) -> Any:
        """Accepts settings of earlier versions, where `trials_per_gpu` was a second way to share a GPU."""
        if not isinstance(values, dict) or "trials_per_gpu" not in values:
            return values
        if values["trials_per_gpu"] is not None and values.get("gpus_per_trial") is None:
            raise ValueError("trials_per_gpu is gone: set gpus_per_trial, such as 0.25 for four trials on one GPU")
        return {key: value for key, value in values.items() if key != "trials_per_gpu"}

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str | None) -> str | None:
        if name is not None:
            check_name(name)
        return name

    @field_validator("time_budget", "trial_timeout", mode="before")
    @classmethod
    def _read_duration(cls, value: Any) -> Any:
        return parse_duration(value) if isinstance(value, str) else value

    @field_validator("trial")
    @classmethod
    def _check_trial(cls, trial: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        elsewhere = sorted(SEARCH_WIDE & trial.keys())
        if elsewhere:
            raise ValueError(f"{elsewhere[0]} is a setting of the search itself: set it there")
        try:
            settings = TrialSettings.model_validate({"network": info.data.get("network", "small_cnn")} | trial)
        except ValidationError as error:
            raise ValueError(describe(error.errors()[0], TrialSettings)) from error
        return settings.model_dump(include=set(trial))

    @model_validator(mode="after")
    def _check_grace_period(self) -> SearchSettings:
        if self.grace_period is not None and self.grace_period > self.epochs:
            raise ValueError(f"grace_period must be at most epochs ({self.epochs}), got {self.grace_period}")
        return self

    def data_settings(self) -> DataSettings:
        """The part that says which images and labels the trials see."""
        return DataSettings(**{key: getattr(self, key) for key in DataSettings.model_fields})

    def common_trial_settings(self) -> dict[str, Any]:
        """What all trials share, before what is searched."""
        preset = PRESETS[self.preset] if self.preset else {}
        return preset | self.trial | {"network": self.network, "epochs": self.epochs, "seed": self.seed}

    def gpus(self) -> float:
        """Of one trial, once `gpus_per_trial` was decided."""
        return self.gpus_per_trial or 0.0

    def threads(self) -> int:
        """Of torch in a trial on a CPU."""
        return max(1, int(self.cpus_per_trial))

    def epochs_between_checkpoints(self) -> int:
        """As set, or a tenth of a trial."""
        return self.checkpoint_every or max(1, self.epochs // 10)


# Keys of a trial's settings that may stand beside those of the search.
TRIAL_ONLY = TrialSettings.model_fields.keys() - SearchSettings.model_fields.keys()


def read_settings(config: Path | None, options: dict[str, Any], assignments: Sequence[str] = ()) -> SearchSettings:
    """Merges a settings file (if any) with the command's options; options win.

    Args:
        config: a YAML file of settings, of the search or of its trials; an experiment's own `search.yaml` will do.
        options: by settings key; None means not given.
        assignments: `KEY=VALUE` of any setting of the search or of its trials, the value as YAML.

    Raises:
        RequestError: one line that names the setting, its value and what is allowed.
    """
    document = read_yaml(config) if config else YamlDocument({}, "the options")
    refuse_newer(document)
    given = {key: value for key, value in options.items() if value is not None}
    values = {key: value for key, value in document.values.items() if key not in RECORD_KEYS} | given
    places = {key: "--" + key.replace("_", "-") for key in given}
    of_trials = {key: values.pop(key) for key in document.values if key in TRIAL_ONLY}
    for key, value in map(_parse_assignment, assignments):
        if key in TRIAL_ONLY:
            of_trials[key], places["trial"] = value, "--set"
        else:
            values[key], places[key] = value, "--set"
    if of_trials:
        values["trial"] = (values.get("trial") or {}) | of_trials
    try:
        return SearchSettings.model_validate(with_noise(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        said = describe(first, SearchSettings, TRIAL_ONLY)
        raise RequestError(f"{said} ({places.get(key) or document.place(key)})") from error


def with_noise(values: dict[str, Any]) -> dict[str, Any]:
    """`values` with the demonstration's own label noise; real data keep the labels they came with."""
    demonstrates = "noise" not in values and values.get("dataset", "digits") == "digits"
    return values | {"noise": DEMONSTRATION_NOISE} if demonstrates else values


def _parse_assignment(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise RequestError(f"--set takes KEY=VALUE, got {text!r}")
    return key, parse_yaml(f"value: {value}", f"--set {key}").values["value"]


def refuse_newer(document: YamlDocument) -> None:
    """Raises RequestError if a newer version of the project wrote this document."""
    written = document.values.get("format", FORMAT)
    if not isinstance(written, int) or written > FORMAT:
        raise RequestError(
            f"{document.source} has format {written!r}, this version reads up to {FORMAT}: upgrade tune-mentormix"
        )


def default_name(settings: SearchSettings) -> str:
    """Of a search that was given none: the dataset and the time."""
    return f"{settings.dataset}-{datetime.now():%Y%m%d-%H%M%S}"


def check_name(name: str) -> str:
    """Raises ValueError unless `name` is safe as a folder name: it becomes one."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise ValueError(f"must be up to 64 letters, digits and '._-', the first no sign, got {name!r}")
    return name


def parse_duration(text: str) -> float:
    """`90`, `90s`, `30m`, `2h` or `1d` in seconds. Raises ValueError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    if not match:
        raise ValueError(f"must be a duration like 90s, 30m or 2h, got {text!r}")
    return float(match[1]) * SECONDS_PER_UNIT[match[2] or "s"]
