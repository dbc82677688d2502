"""The settings of one trial and of the data it trains on, validated; free of torch so that reading them is cheap.

The names allowed for networks, mentors, datasets and noise kinds stand here; tests hold the tables of functions
in `networks`, `mentors`, `datasets` and `noise` to exactly these names.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

DatasetName = Literal["digits", "cifar10", "cifar100", "folder", "arrays"]
NoiseKind = Literal["symmetric_exclusive", "symmetric_inclusive", "asymmetric", "pair_flip", "instance_dependent"]
LabelsKind = Literal["noisy", "clean"]
OwnNetwork = Literal["small_cnn", "resnet32", "resnet32_wide", "resnet18_cifar"]
MentorName = Literal["threshold", "mentornet_pd", "spcl_linear", "focal", "uniform"]
MixingRule = Literal["hard", "interpolated"]
LearningRateSchedule = Literal["steps", "cosine"]
Precision = Literal["auto", "fp32", "bf16"]
AugmentationName = Literal["none", "crop_flip", "cutout", "reference"]

TORCHVISION_PREFIX = "torchvision/"


def _known_network(name: str) -> str:
    """Refuse what is neither one of our own networks nor marked as torchvision's, which only torchvision knows."""
    own = get_args(OwnNetwork)
    if name in own or name.startswith(TORCHVISION_PREFIX):
        return name
    near = get_close_matches(name, own, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown name {name!r}{hint} (known: {', '.join(sorted(own))}, {TORCHVISION_PREFIX}NAME)")


NetworkName = Annotated[str, AfterValidator(_known_network)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
UserPath = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]  # found from any folder


class Settings(BaseModel):
    """What all settings share: unknown keys are refused, values never change, and NaN or infinity is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataSettings(Settings):
    """Which images and labels a trial sees; equal settings give equal arrays, bit for bit.

    `docs/data.md` says what each dataset expects of `data_dir`, and which label files can be read.
    """

    dataset: DatasetName = "digits"
    data_dir: UserPath | None = None  # folder: the images; arrays: the .npz file; cifar: where it is or is put
    image_size: Annotated[int, Field(ge=1)] | None = None  # folder only: side in pixels; None: images are of one size
    max_images: Annotated[int, Field(ge=2)] | None = None  # use so many of the training images; None: all
    labels_file: UserPath | None = None  # labels to train on, in place of the dataset's own
    labels_key: str | None = None  # the array or column of labels_file to take
    noise: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of labels the noise model changes
    noise_kind: NoiseKind = "symmetric_exclusive"
    noise_map: dict[str, str] | None = None  # asymmetric only: class name → the name it is mistaken for
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2  # of the training images
    validation_labels: LabelsKind = "noisy"  # which labels of that fraction to validate on
    clean_validation: UserPath | None = None  # folder, arrays: validate on this set instead, laid out like data_dir
    data_seed: Seed = 0  # seeds the train/validation split and the label noise
    cache_dir: Path = Path("~/.cache/tune-mentormix")  # for downloads and decoded images; ~ is the home folder

    @model_validator(mode="after")
    def _keys_fit_together(self) -> Self:
        """Refuse a key that would be ignored, and a dataset that lacks the key it needs."""
        if self.dataset in ("folder", "arrays") and self.data_dir is None:
            raise ValueError(f"data_dir must be set for dataset {self.dataset}")
        if self.image_size is not None and self.dataset != "folder":
            raise ValueError(f"image_size is for dataset folder only, got dataset {self.dataset}")
        if self.clean_validation is not None and self.dataset not in ("folder", "arrays"):
            raise ValueError(f"clean_validation is for datasets folder and arrays, got dataset {self.dataset}")
        if self.labels_file is not None and self.noise > 0:
            raise ValueError(f"noise must be 0 with labels_file, whose labels are noisy already; got {self.noise}")
        if self.labels_key is not None and self.labels_file is None:
            raise ValueError(f"labels_key {self.labels_key!r} needs a labels_file")
        if self.noise_map is not None and self.noise_kind != "asymmetric":
            raise ValueError(f"noise_map is for noise_kind asymmetric only, got noise_kind {self.noise_kind}")
        return self


class TrialSettings(Settings):
    """The hyperparameters of one trial; the defaults are the published setting for 40 % noise on CIFAR-10.

    Percents are of the trial's own training steps, so that a short trial sees the same training in small
    (Jiang et al. 2020, and the reference implementation's flags).
    """

    mixup_alpha: Annotated[float, Field(ge=0)] = 8.0  # 0: no mixing
    loss_p_percentile: Annotated[float, Field(gt=0, lt=1)] = 0.6
    burn_in: Annotated[float, Field(ge=0, lt=100)] = 10.0  # percent of training
    second_reweight: bool = False
    mentor: MentorName = "mentornet_pd"
    mixing: MixingRule = "hard"
    partner_temperature: Annotated[float, Field(gt=0)] = 1.0  # of the softmax that partners are drawn by
    network: NetworkName = "small_cnn"
    pretrained: bool = False  # torchvision's networks only: begin at its weights
    augmentation: AugmentationName = "none"
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    lr_schedule: LearningRateSchedule = "steps"
    weight_decay: Annotated[float, Field(ge=0)] = 2e-4  # L2, on convolution and dense kernels only
    decay_under_second_reweight: bool = True  # False: no weight decay at all with second_reweight
    batch_size: Annotated[int, Field(ge=2)] = 128
    ema: Annotated[float, Field(ge=0, le=1)] = 0.05  # horizon of the weight average, as a share of training
    precision: Precision = "auto"  # auto: bf16 on GPUs that have it, else fp32
    epochs: Annotated[int, Field(ge=1)] = 60
    seed: Seed = 0

    @model_validator(mode="after")
    def _only_torchvision_has_weights(self) -> Self:
        """Refuse to begin at weights that do not exist."""
        if self.pretrained and not self.network.startswith(TORCHVISION_PREFIX):
            raise ValueError(f"pretrained is for networks {TORCHVISION_PREFIX}NAME only, got network {self.network}")
        return self


_COMMON: dict[str, Any] = {
    "partner_temperature": 1.0,
    "learning_rate": 0.1,
    "lr_schedule": "steps",
    "weight_decay": 2e-4,
    "batch_size": 128,
    "ema": 0.05,  # 0.9999, the reference's decay, is a twentieth of its 200,000 steps
    "augmentation": "reference",
}

PRESETS: dict[str, dict[str, Any]] = {
    "reference": _COMMON
    | {
        "mentor": "mentornet_pd",
        "mixing": "hard",
        "decay_under_second_reweight": False,
    },
    "paper": _COMMON
    | {
        "mentor": "threshold",
        "mixing": "interpolated",
        "decay_under_second_reweight": True,
    },
}
"""Name → keys of `TrialSettings`; what a search space or an option sets as well wins."""
