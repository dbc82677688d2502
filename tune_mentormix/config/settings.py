"""SearchSettings: the contents of `search.yaml` and the options of `search`, checked in one place."""

from __future__ import annotations

import getpass
import os
import re
import shlex
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from trainables.files import user_path
from trainables.plugins import PluginKind, is_plugin, plugins_in
from trainables.settings import (
    MAX_COUNT,
    PRESETS,
    Count,
    DataSettings,
    DeviceName,
    MetricName,
    NetworkName,
    PluginName,
    Seed,
    Settings,
    TrialSettings,
    UserPath,
)
from tune_mentormix.config.controls import ControlName
from tune_mentormix.config.validation import describe
from tune_mentormix.storage.paths import Location, as_location

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
OWNER_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}"  # a user name, or an e-mail address
FORMAT = 1  # of search.yaml, the journal and exported configurations; a newer one is refused
BUDGETS = ("time_budget", "epoch_budget", "patience", "until_gain")  # of the search, not of what is trained after it
# What may change between two runs of one search, besides the cluster that it runs on.
RESUMABLE = (
    *("num_samples", "time_budget", "epoch_budget", "patience", "until_gain", "trial_timeout"),
    *("max_concurrent", "cpus_per_trial", "gpus_per_trial", "device", "wait_for_nodes"),
)
# What may differ in `search.yaml` from what a search was started with: besides those, where it and its data lie.
CHANGEABLE = frozenset(
    (
        *RESUMABLE,
        *("name", "owner", "storage", "address", "tracker", "checkpoint_every", "max_restarts"),
        *("data_dir", "labels_file", "clean_validation", "verified", "cache_dir", "start_from"),
    )
)
SCHEMA_FILE = "search.schema.json"  # of `settings_schema`, beside the experiments of a storage
RECORD_KEYS = ("format", "provenance")  # what an experiment's own search.yaml holds besides settings
SEARCH_WIDE = frozenset({"network", "epochs", "seed"})  # of the trial's settings: one for the whole search
TrackerName = Literal["wandb", "mlflow"]
PresetName = Literal["reference", "paper", "finetune"]
SamplerName = Literal["tpe", "gp", "cmaes", "random", "grid", "qmc"]
SchedulerName = Literal["asha", "none"]
StorageSetting = Annotated[
    Location, PlainValidator(as_location), PlainSerializer(str, return_type=str), WithJsonSchema({"type": "string"})
]
ENVIRONMENT = {  # variables for what is the same in every command
    "storage": "TUNE_MENTORMIX_STORAGE",
    "cache_dir": "TUNE_MENTORMIX_CACHE_DIR",
    "address": "TUNE_MENTORMIX_RAY_ADDRESS",
    "dashboard": "TUNE_MENTORMIX_DASHBOARD",
}
STORAGE = Path("results")  # where experiments are kept by default
KEYS_PAGE = "docs/search.md and docs/method.md"
# Of the digits, where nothing else is set: wrong labels that are memorised, and enough images to tell trials apart.
DEMONSTRATION = {"noise": 0.6, "validation_fraction": 0.5, "epochs": 40, "num_samples": 40}
NO_RAY_GPU = ("cpu", "mps")  # devices for which a trial takes none of the GPUs that Ray counts
RAY_RESOLUTION = 0.0001  # of a CPU or a GPU; Ray rounds to it
SECONDS_PER_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION_PATTERN = r"([0-9]+(?:\.[0-9]+)?) *([smhd]?)"


def parse_duration(text: str) -> float:
    """Returns `90`, `90s`, `30m`, `2h` or `1d` in seconds. Raises ValueError for anything else."""
    match = re.fullmatch(DURATION_PATTERN, text.strip())
    if not match:
        raise ValueError(f"must be a duration like 90s, 30m or 2h, got {text!r}")
    return float(match[1]) * SECONDS_PER_UNIT[match[2] or "s"]


def check_name(name: str) -> str:
    """Returns a name that is safe as that of a folder. Raises ValueError for any other."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise ValueError(f"must be up to 64 letters, digits and '._-', the first a letter or a digit, got {name!r}")
    return name


def check_owner(owner: str | None) -> str | None:
    """Returns a name that an owner can have. Raises ValueError for any other."""
    if owner is not None and not re.fullmatch(OWNER_PATTERN, owner):
        raise ValueError(
            f"must be up to 64 letters, digits and '._@+-', the first a letter or a digit, got {owner!r}"
        )
    return owner


Seconds = Annotated[
    float,
    Field(gt=0),
    BeforeValidator(lambda value: parse_duration(value) if isinstance(value, str) else value),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": f"^{DURATION_PATTERN}$"}]}
    ),
]


def _at_most_one(gpus: float) -> float:
    if gpus > 1:
        raise ValueError(f"must be at most 1, since a trial trains on one GPU, got {gpus:g}")
    if 0 < gpus < RAY_RESOLUTION:
        raise ValueError(f"must be 0, 1, or a fraction of at least {RAY_RESOLUTION:g}, got {gpus:g}")
    return gpus


def list_of_one(value: Any) -> Any:
    """Returns a text as a list of it, and anything else as it is."""
    return [value] if isinstance(value, str) else value


class EarlierTrial(Settings):
    """A trial of an earlier search: what it was, and how far it came."""

    values: dict[str, Any]
    """Its hyperparameters, where they are searched or not as in `EarlierResults.common`."""
    ran_to_its_end: bool
    epoch: Annotated[int, Field(ge=0)]
    """Its last with a score; 0: none."""
    score: float | None


class EarlierResults(Settings):
    """The results of an earlier search that a sampler may be told, with what they depend on."""

    experiment: str
    metric: str
    fingerprint: str
    """Of the data."""
    digests: dict[str, str] = Field(default_factory=dict)
    """sha256 of the source of each plug-in, by its name, and of each weights file, by its path."""
    common: dict[str, Any]
    """Of all its trials, but for the seed."""
    trials: list[EarlierTrial]
    """Those that ran to their end first, the best of them first."""

    @property
    def name(self) -> str:
        """The experiment's name."""
        return Path(self.experiment).name

    def config(self, trial: EarlierTrial) -> dict[str, Any]:
        """Returns all settings of a trial but its seed."""
        return self.common | trial.values


class SearchSettings(DataSettings):
    """All settings of a search: data (inherited), budget, how trials are proposed and stopped, and where they run.

    The docstring below a field is its only description: its first paragraph is the option's help text.
    """

    name: Annotated[str | None, AfterValidator(lambda name: None if name is None else check_name(name))] = None
    """Experiment name. Not set: the dataset and the time.

    Up to 64 letters, digits and `._-`, starting with a letter or a digit. It becomes the experiment's folder.
    """
    owner: Annotated[str | None, AfterValidator(check_owner)] = None
    """Who the search belongs to. Not set: the user who starts it.

    `list --owner NAME` shows an owner's searches; see [Who may do what](service.md#who-may-do-what).
    """
    space: str | dict[str, Any] = "default"
    """Search space: by name, or a YAML file.

    A settings file may hold its lines here; see [Search spaces](search.md#search-spaces).
    """
    network: NetworkName = "small_cnn"
    """Network architecture of all trials, or torchvision/NAME, timm/NAME, package.module:name.

    See [Networks](method.md#networks).
    """
    epochs: Count = 60
    """Epochs of a trial that is not stopped early. Not set: 40 for dataset `digits`, otherwise 60."""
    preset: PresetName | None = None
    """Rules of MentorMix from one source, or of fine-tuning; `trial` and the space win over them.

    See [Two presets](method.md#two-presets) and [Fine-tuning](method.md#fine-tuning).
    """
    trial: dict[str, Any] = Field(default_factory=dict)
    """Other hyperparameters that all trials share, such as `{batch_size: 64}`.

    See [Hyperparameters](method.md#hyperparameters).
    """
    start_from: UserPath | None = None
    """Warm start from an earlier experiment or an export: the sampler begins with what is known.

    An experiment's folder, or an exported `best_config.yaml`. See
    [Going on from an earlier search](search.md#going-on-from-an-earlier-search).
    """
    first_trials: list[dict[str, Any]] = Field(default_factory=list)
    """Configurations to try right after the controls. `start_from` may fill it in."""
    earlier_results: EarlierResults | None = None
    """Results of an earlier experiment that the sampler is told. `start_from` fills it in."""
    num_samples: Count = 20
    """Number of trials, including the controls. Not set: 40 for dataset `digits`, otherwise 20."""
    controls: list[ControlName] = Field(default=["published", "plain"])
    """Controls, which train first and to the end: `published`, `mixup`, `plain`.

    `published` begins with the published values for 40 % noise. If the noise rate estimated from it is nearer to
    another row of the table, that row trains too, and is the one that results are compared with.
    """
    sampler: SamplerName = "tpe"
    """Optuna sampler that proposes configurations.

    `grid` needs a space without ranges of real numbers, such as `published`.
    """
    metric: MetricName | PluginName = "val_accuracy"
    """Metric on the validation labels that the search maximises, or package.module:name.

    `balanced_accuracy` and `macro_f1` are means over the classes; see [Metrics](search.md#metrics).
    """
    scheduler: SchedulerName = "asha"
    """Early stopping of trials: asynchronous successive halving, or none."""
    grace_period: Count | None = None
    """Epochs before a trial may be stopped early. Not set: 15 % of a trial after the longest burn-in.

    See [search-policy.md](search-policy.md) for the reason.
    """
    reduction_factor: Annotated[float, Field(ge=2, le=MAX_COUNT)] = 2.0
    """At a rung, the best 1 in this many trials continue; the next rung comes this many times later."""
    seed: Seed = 0
    """Random seed of the sampler and of all trials."""
    cpus_per_trial: Annotated[float, Field(ge=RAY_RESOLUTION, le=MAX_COUNT)] = 1.0
    """CPU cores of one trial."""
    gpus_per_trial: Annotated[float, Field(ge=0, le=MAX_COUNT), AfterValidator(_at_most_one)] | None = None
    """GPUs of one trial, at most 1; a fraction lets trials share one. Not set: 1 if there are GPUs, otherwise 0.

    See [Several trials on one GPU](search.md#several-trials-on-one-gpu).
    """
    device: DeviceName = "auto"
    """Device to train on; `auto` is a CUDA GPU if the trial has one, otherwise the CPU."""
    max_concurrent: Count | None = None
    """Trials that run at the same time. Not set: as many as fit."""
    wait_for_nodes: Seconds = 600.0
    """How long to wait, on a cluster, until a node has room for a trial, such as 30m.

    See [Clusters that grow and shrink](cluster.md#clusters-that-grow-and-shrink).
    """
    time_budget: Seconds | None = None
    """End this run after a time such as 90s, 30m, 2h or 1d; it can be resumed."""
    epoch_budget: Count | None = None
    """End the search after this many epochs of all trials together, including the controls."""
    patience: Count | None = None
    """Start no new trials after this many in a row without a better accuracy at the last epoch."""
    until_gain: Annotated[float, Field(gt=0, le=100)] | None = None
    """Start no new trials once ten more are expected to gain less than so many points, such as 0.2.

    See [When to stop](search.md#when-to-stop).
    """
    trial_timeout: Seconds | None = None
    """Stop a trial that reports nothing for this long, such as 10m; it counts as failed.

    It must be longer than the slowest epoch.
    """
    checkpoint_every: Count | None = None
    """Epochs between checkpoints. Not set: a tenth of a trial."""
    max_restarts: Annotated[int, Field(ge=0, le=MAX_COUNT)] = 3
    """Restarts of a trial whose worker died, without a new epoch in between."""
    tracker: Annotated[list[TrackerName], BeforeValidator(list_of_one)] = Field(default_factory=list)
    """Experiment tracker to write curves to, besides TensorBoard.

    `make install EXTRAS=wandb` or `EXTRAS=mlflow` installs it; its own environment variables configure it.
    TensorBoard's files are always written: `tensorboard --logdir results/birds/runs`.
    """
    storage: StorageSetting = STORAGE
    """Where experiments are kept: a folder, or a URI such as s3://bucket/folder.

    See [Where experiments live](search.md#where-experiments-live).
    """
    address: str | None = None
    """Ray cluster to run on: HOST:PORT, `auto`, or `local`. Not set: RAY_ADDRESS, or this machine."""

    @model_validator(mode="before")
    @classmethod
    def _drop_trials_per_gpu(cls, values: Any) -> Any:
        """Accepts settings of earlier versions, where `trials_per_gpu` was a second way to share a GPU."""
        if not isinstance(values, dict) or "trials_per_gpu" not in values:
            return values
        if values["trials_per_gpu"] is not None and values.get("gpus_per_trial") is None:
            raise ValueError("trials_per_gpu is gone: set gpus_per_trial, such as 0.25 for four trials on one GPU")
        return {key: value for key, value in values.items() if key != "trials_per_gpu"}

    @field_validator("first_trials")
    @classmethod
    def _check_first_trials(cls, trials: list[dict[str, Any]], info: ValidationInfo) -> list[dict[str, Any]]:
        return [cls._check_trial(trial, info) for trial in trials]

    @field_validator("trial")
    @classmethod
    def _check_trial(cls, trial: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        elsewhere = sorted(SEARCH_WIDE & trial.keys())
        if elsewhere:
            raise ValueError(
                f"{elsewhere[0]} is a setting of the search itself: set it outside of trial and first_trials"
            )
        try:
            settings = TrialSettings.model_validate({"network": info.data.get("network", "small_cnn")} | trial)
        except ValidationError as error:
            wrong = error.errors()[0]
            context = {"text": describe(wrong, TrialSettings), "key": str(wrong["loc"][0]) if wrong["loc"] else ""}
            raise PydanticCustomError("value_error", "Value error, {text}", context) from error
        return settings.model_dump(include=set(trial))

    @model_validator(mode="after")
    def _check_grace_period(self) -> SearchSettings:
        if self.grace_period is not None and self.grace_period > self.epochs:
            raise ValueError(f"grace_period must be at most epochs ({self.epochs}), got {self.grace_period}")
        return self

    @model_validator(mode="after")
    def _check_until_gain(self) -> SearchSettings:
        if self.until_gain is not None and is_plugin(self.metric):
            raise ValueError(f"until_gain is in points of accuracy, and metric {self.metric} has a scale of its own")
        return self

    @model_validator(mode="after")
    def _check_device(self) -> SearchSettings:
        gpus = self.gpus_per_trial
        if self.device == "cuda" and gpus == 0:
            raise ValueError("gpus_per_trial must be above 0 with device cuda, got 0")
        if self.device in NO_RAY_GPU and gpus:
            raise ValueError(f"gpus_per_trial must be 0 with device {self.device}, got {gpus:g}")
        return self

    def data_settings(self) -> DataSettings:
        """Returns the settings of the data alone."""
        return DataSettings(**{key: getattr(self, key) for key in DataSettings.model_fields})

    def common_trial_settings(self) -> dict[str, Any]:
        """Returns the hyperparameters that all trials share, but for those of the space."""
        preset = PRESETS[self.preset] if self.preset else {}
        return preset | self.trial | {"network": self.network, "epochs": self.epochs, "seed": self.seed}

    def plugins(self) -> dict[str, PluginKind]:
        """Returns the plug-ins that the search names, by name; also those of a space that is written out."""
        found = plugins_in(vars(self)) | plugins_in(self.trial)
        for trial in self.first_trials:
            found |= plugins_in(trial)
        for key, entry in self.space.items() if isinstance(self.space, dict) else ():
            choices = entry.get("choices") if isinstance(entry, dict) else [entry]
            for choice in choices if isinstance(choices, list) else ():
                found |= plugins_in({key: choice})
        return found

    def weights_files(self) -> list[Path]:
        """Returns the files that trials may start their weights from; also those of a space that is written out."""
        entry = self.space.get("weights") if isinstance(self.space, dict) else None
        choices = entry.get("choices") if isinstance(entry, dict) else [entry]
        named = [trial.get("weights") for trial in (self.trial, *self.first_trials)]
        named += choices if isinstance(choices, list) else []
        return list(dict.fromkeys(user_path(path).absolute() for path in named if isinstance(path, str)))

    def gpus(self) -> float:
        """Returns the GPUs of one trial, once `gpus_per_trial` was decided."""
        return self.gpus_per_trial or 0.0

    def most_gpus(self) -> float:
        """Returns the largest number of GPUs that its trials may take at the same time."""
        default = 0.0 if self.device in NO_RAY_GPU else 1.0
        each = default if self.gpus_per_trial is None else self.gpus_per_trial
        return each * min(self.max_concurrent or self.num_samples, self.num_samples)

    def threads(self) -> int:
        """Returns the number of threads that torch uses in a trial on a CPU."""
        return max(1, int(self.cpus_per_trial))

    def epochs_between_checkpoints(self) -> int:
        """Returns the number as it is set, or a tenth of a trial."""
        return self.checkpoint_every or max(1, self.epochs // 10)


def option_name(key: str) -> str:
    """Returns the option of the command line that sets a key."""
    return {"num_samples": "--trials", "address": "--ray-address"}.get(key) or "--" + key.replace("_", "-")


def default_name(settings: SearchSettings) -> str:
    """Returns the name of a search that was given none: the dataset and the time."""
    dataset = re.sub("[:/]", "-", settings.dataset).strip("_")  # of a plug-in, of hf/NAME
    return f"{dataset}-{datetime.now():%Y%m%d-%H%M%S}"


def default_owner() -> str | None:
    """Returns the name of the user of this process; None where it has none, as in some containers."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        return None
    return re.sub(r"[^A-Za-z0-9._@+-]", "-", name).lstrip("._@+-")[:64] or None


def with_storage(words: str, storage: Location) -> str:
    """Returns the words of a command with a --storage option, if it would not find this storage without one."""
    default = os.environ.get(ENVIRONMENT["storage"], STORAGE)
    return words if str(storage) == str(default) else f"{words} --storage {shlex.quote(str(storage))}"
