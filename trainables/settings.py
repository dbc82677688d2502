"""The settings of one trial and of the data it trains on, validated; free of torch so that reading them is cheap.

The names allowed for networks, mentors, datasets and noise kinds stand here; tests hold the tables of functions
in `networks`, `mentors`, `datasets` and `noise` to exactly these names.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from trainables.files import user_path
from trainables.plugins import PLUGIN_FORM, PLUGIN_PATTERN, is_plugin

DatasetName = Literal["digits", "cifar10", "cifar100", "folder", "arrays"]
NoiseKind = Literal["symmetric_exclusive", "symmetric_inclusive", "asymmetric", "pair_flip", "instance_dependent"]
LabelsKind = Literal["noisy", "clean"]
OwnNetwork = Literal["small_cnn", "resnet32", "resnet32_wide", "resnet18_cifar"]
MentorName = Literal["threshold", "mentornet_pd", "spcl_linear", "focal", "uniform"]
MixingRule = Literal["hard", "interpolated"]
LearningRateSchedule = Literal["steps", "cosine"]
OptimizerName = Literal["sgd", "adamw"]
Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]
MetricName = Literal["val_accuracy", "balanced_accuracy", "macro_f1", "top5_accuracy"]
ImagesIn = Literal["auto", "memory", "disk"]
AugmentationName = Literal[
    "none", "crop_flip", "cutout", "reference", "resized_crop", "trivial_augment", "random_erasing"
]

TORCHVISION_PREFIX = "torchvision/"
TIMM_PREFIX = "timm/"
LIBRARY_PREFIXES = (TORCHVISION_PREFIX, TIMM_PREFIX)
LIBRARY_NAMES = ", ".join(f"{prefix}NAME" for prefix in LIBRARY_PREFIXES)
OWN_METRIC = "own_metric"
HUGGING_FACE_PREFIX = "hf/"
HUGGING_FACE_FILES = ("parquet", "webdataset", "arrow")  # kinds of files in a data_dir; other names are the hub's
HUGGING_FACE_PATTERN = r"^hf/\w[\w.-]*(/\w[\w.-]*)?$"
HuggingFaceName = Annotated[str, Field(pattern=HUGGING_FACE_PATTERN, max_length=200)]
PluginName = Annotated[str, Field(pattern=PLUGIN_PATTERN, max_length=200)]


NAME_FORMS = {HUGGING_FACE_PATTERN: f"{HUGGING_FACE_PREFIX}NAME", PLUGIN_PATTERN: PLUGIN_FORM}  # for people


def _known_network(name: str) -> str:
    """Refuse what is neither one of our own networks, nor a library's or a plug-in, which we do not know."""
    own = get_args(OwnNetwork)
    if name in own or name.startswith(LIBRARY_PREFIXES) or is_plugin(name):
        return name
    near = get_close_matches(name, own, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown name {name!r}{hint} (known: {', '.join(sorted(own))}, {LIBRARY_NAMES}, {PLUGIN_FORM})")


def metric_key(metric: str) -> str:
    """Returns the name of a metric in reports: its own, or `own_metric` for a plug-in."""
    return OWN_METRIC if is_plugin(metric) else metric


def _possible_path(value: Any) -> Any:
    if isinstance(value, str | Path):
        user_path(value)
    return value


MAX_COUNT = 1_000_000_000  # of epochs, trials, images: more is a slip of the keyboard
NetworkName = Annotated[str, AfterValidator(_known_network)]
Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
GivenPath = Annotated[Path, BeforeValidator(_possible_path)]  # `~` stays: it may be another machine's
UserFile = Annotated[  # a path that is text in JSON
    str,
    AfterValidator(lambda path: str(user_path(path).absolute())),
    WithJsonSchema({"type": "string", "format": "path"}),
]
UserPath = Annotated[GivenPath, AfterValidator(lambda path: user_path(path).absolute())]  # found from any folder


class Settings(BaseModel):
    """The rules of all settings: unknown keys are refused, values never change, and NaN or infinity is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false where a number is expected: Python takes them for 1 and 0."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise PydanticCustomError("truth_value", "true and false are not possible here")
        return value

    def _given(self, name: str) -> str:
        """Returns the value of a setting for a message, which tells a default from what the user set."""
        return f"{name} {getattr(self, name)}" + ("" if name in self.model_fields_set else " (the default)")


class DataSettings(Settings):
    """The images and labels that a trial sees; equal settings give equal arrays, bit for bit.

    `docs/data.md` describes what each dataset expects of `data_dir`, and which label files can be read.
    """

    dataset: DatasetName | HuggingFaceName | PluginName = "digits"
    """Images to train on, hf/NAME, or package.module:name.

    See [Where the images are](data.md#where-the-images-are).
    """
    data_dir: UserPath | None = None
    """Where the images are: a folder, or the .npz file of dataset `arrays`.

    `cifar10` and `cifar100` are downloaded if it is not set; `digits` does not need it.
    """
    image_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Resize images to this many pixels a side. Datasets `folder` and hf/NAME only.

    Not set: all images must have one size already.
    """
    images_in: ImagesIn = "auto"
    """Where images are kept during training; `auto`: on disk if they take 2 GB or more, decoded.

    Datasets `folder` and hf/NAME only; all others are in memory.

    See [Data larger than memory](data.md#data-larger-than-memory).
    """
    image_column: str | None = None
    """Column of the images in hf/NAME. Not set: the only one of images."""
    label_column: str | None = None
    """Column of the labels in hf/NAME. Not set: the only one of classes, or the one named `label` or `cls`."""
    max_images: Annotated[int, Field(ge=2, le=MAX_COUNT)] | None = None
    """Use only this many of the training images, with the same fraction of every class.

    Not set: all of them.
    """
    labels_file: UserPath | None = None
    """File of labels to train on instead of the dataset's own.

    See [Labels from a file](data.md#labels-from-a-file).
    """
    labels_key: str | None = None
    """Name of the array or column of `labels_file` to use."""
    noise: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of labels to replace by wrong ones. Not set: 0.6 for dataset `digits`, otherwise 0.

    For experiments on data whose labels are right; see [Artificial label noise](data.md#artificial-label-noise).
    """
    noise_kind: NoiseKind = "symmetric_exclusive"
    """How wrong labels are chosen."""
    noise_map: dict[str, str] | None = None
    """Which class is mistaken for which, by name: `{cat: dog}`. Noise kind `asymmetric` only.

    CIFAR-10 has a map already.
    """
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Fraction of the training images to validate on, the same in every class. Not set: 0.5 for `digits`, else 0.2.

    After the search, the best can be trained on [all images](export.md#weights-that-have-seen-all-images).
    """
    validation_labels: LabelsKind = "noisy"
    """Labels to validate on: noisy as they are for training, or clean if they are known."""
    clean_validation: UserPath | None = None
    """Validate on these images instead of a fraction. Datasets `folder` and `arrays` only.

    Laid out like `data_dir`; all of `data_dir` is then trained on.
    """
    verified: UserPath | None = None
    """Validate on the labels that people verified in this verify.csv, instead of a fraction.

    All other images are trained on. See [The next search](verify.md#the-next-search).
    """
    data_seed: Seed = 0
    """Random seed of the validation split and of the label noise."""
    cache_dir: GivenPath = Path("~/.cache/tune-mentormix")
    """Folder for downloads and decoded images."""

    @field_validator("validation_fraction", mode="before")
    @classmethod
    def _validate_on_something(cls, fraction: Any) -> Any:
        if fraction == 0:
            raise ValueError(
                "must be above 0, since configurations are compared on these images; the best one can be trained on "
                "all images after the search: export --refit, train --all-images"
            )
        return fraction

    @model_validator(mode="after")
    def _keys_fit_together(self) -> Self:
        """Refuse a key that would be ignored, and a dataset that lacks the key it needs."""
        kind = self.dataset.removeprefix(HUGGING_FACE_PREFIX)
        is_hugging_face = kind != self.dataset
        is_in_data_dir = kind in HUGGING_FACE_FILES if is_hugging_face else kind in ("folder", "arrays")
        if is_in_data_dir and self.data_dir is None:
            raise ValueError(f"data_dir must be set for dataset {self.dataset}")
        if is_hugging_face and not is_in_data_dir and self.data_dir is not None:
            kinds = ", ".join(f"{HUGGING_FACE_PREFIX}{each}" for each in HUGGING_FACE_FILES)
            raise ValueError(f"data_dir is for files ({kinds}), not for {self.dataset}, which is downloaded")
        if not (is_hugging_face or self.dataset == "folder"):
            for name in ("image_size", "images_in"):
                if getattr(self, name) not in (None, "auto", "memory"):
                    raise ValueError(f"{name} is for datasets folder and hf/NAME only, got {self._given('dataset')}")
        for name in ("image_column", "label_column"):
            if getattr(self, name) is not None and not is_hugging_face:
                raise ValueError(f"{name} is for datasets hf/NAME only, got {self._given('dataset')}")
        if self.clean_validation is not None and self.dataset not in ("folder", "arrays"):
            raise ValueError(f"clean_validation is for datasets folder and arrays, got {self._given('dataset')}")
        if self.clean_validation is not None and self.verified is not None:
            raise ValueError("clean_validation and verified both name clean validation labels: set one of them")
        if self.labels_file is not None and self.noise > 0:
            raise ValueError(f"noise must be 0 with labels_file, whose labels are noisy already; got {self.noise}")
        if self.labels_key is not None and self.labels_file is None:
            raise ValueError(f"labels_key {self.labels_key!r} needs a labels_file")
        if self.noise_map is not None and self.noise_kind != "asymmetric":
            raise ValueError(f"noise_map is for noise_kind asymmetric only, got {self._given('noise_kind')}")
        return self

    @property
    def has_separate_validation(self) -> bool:
        """Whether images with clean labels of their own are validated on, and no fraction of the others."""
        return self.clean_validation is not None or self.verified is not None


class TrialSettings(Settings):
    """The hyperparameters of one trial; the defaults are the published setting for 40 % noise on CIFAR-10.

    Percents are of the trial's own training steps, so that a short trial sees the same training in small
    (Jiang et al. 2020, and the reference implementation's flags).
    """

    mixup_alpha: Annotated[float, Field(ge=0)] = 8.0
    """α of the Beta distribution that mixing coefficients are drawn from; 0: no mixing."""
    loss_p_percentile: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """Percentile of a batch's losses that the mentor compares each loss with, as a fraction."""
    burn_in: Annotated[float, Field(ge=0, lt=100)] = 10.0
    """Percent of training at the start in which all examples have weight 1."""
    second_reweight: bool = False
    """Whether the losses of the mixed images are weighted too."""
    mentor: MentorName | PluginName = "mentornet_pd"
    """How weights are computed from losses, or package.module:name; see [Mentors](method.md#mentors)."""
    mixing: MixingRule = "hard"
    """How mixing coefficients depend on weights; see [Two presets](method.md#two-presets)."""
    partner_temperature: Annotated[float, Field(gt=0)] = 1.0
    """Temperature of the softmax by which mixing partners are drawn."""
    network: NetworkName = "small_cnn"
    """Network architecture; see [Networks](method.md#networks)."""
    pretrained: bool = False
    """Start from the weights that come with the network. Networks `torchvision/NAME` and `timm/NAME` only."""
    weights: UserFile | None = None
    """Start from the weights in this file; see [Networks](method.md#networks)."""
    augmentation: AugmentationName | PluginName = "none"
    """Random changes of the training images, or package.module:name; see [Augmentation](data.md#augmentation)."""
    optimizer: OptimizerName = "sgd"
    """SGD with momentum, or AdamW, whose weight decay is not part of the gradient."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD; β₁ of AdamW."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    """Learning rate at the start, or after the warm-up."""
    lr_schedule: LearningRateSchedule = "steps"
    """`steps`: 0.9 times the learning rate, 17 times in a trial. `cosine`: half a cosine that ends at 0."""
    warm_up_epochs: Annotated[float, Field(ge=0)] = 0.0
    """Epochs at the start in which the learning rate grows from 0."""
    head_lr_factor: Annotated[float, Field(gt=0)] = 1.0
    """How many times the learning rate the head has, the last layer, which is new in a pretrained network."""
    freeze_backbone_epochs: Annotated[int, Field(ge=0, le=MAX_COUNT)] = 0
    """Epochs at the start in which the head trains alone; batch norm still records its statistics."""
    gradient_clipping: Annotated[float, Field(ge=0)] = 0.0
    """Largest norm of the gradient of all weights, to which a larger one is scaled; 0: no clipping."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of every label that is spread over all classes, in the loss that is trained on."""
    weight_decay: Annotated[float, Field(ge=0)] = 2e-4
    """L2 penalty on the kernels of convolutions and dense layers."""
    decay_under_second_reweight: bool = True
    """Whether `second_reweight` keeps weight decay; the reference code turns it off."""
    batch_size: Annotated[int, Field(ge=2, le=MAX_COUNT)] = 128
    """Images in a batch."""
    ema: Annotated[float, Field(ge=0, le=1)] = 0.05
    """How far the moving average of the weights (EMA) reaches back, as a fraction of training; 0: no average."""
    precision: Precision = "auto"
    """What networks compute in; `auto` is bf16 on GPUs that have it, otherwise fp32.

    `tf32` is fp32 with faster, less exact convolutions and dense layers on GPUs that have it. `fp16` is for NVIDIA
    GPUs without bf16, and scales the loss. Elsewhere both are fp32.
    """
    compile: bool = False
    """Compile the loss with `torch.compile`. Results differ by rounding."""
    epochs: Count = 60
    """Epochs of a trial that is not stopped early."""
    seed: Seed = 0
    """Random seed of the initial weights, the order of images, the mixing and the augmentation."""

    @model_validator(mode="after")
    def _weights_exist_once(self) -> Self:
        """Refuse to begin at weights that do not exist, or at two kinds of them."""
        if self.pretrained and not self.network.startswith(LIBRARY_PREFIXES):
            raise ValueError(f"pretrained is for networks {LIBRARY_NAMES} only, got {self._given('network')}")
        if self.pretrained and self.weights is not None:
            raise ValueError("pretrained must be false if weights are given")
        return self


_COMMON: dict[str, Any] = {
    "partner_temperature": 1.0,
    "optimizer": "sgd",
    "momentum": 0.9,
    "warm_up_epochs": 0.0,
    "head_lr_factor": 1.0,
    "freeze_backbone_epochs": 0,
    "gradient_clipping": 0.0,
    "label_smoothing": 0.0,
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
    "finetune": {  # for pretrained weights, of which large steps leave little; measured in benchmarks/fine_tuning.py
        "optimizer": "sgd",
        "learning_rate": 0.03,
        "lr_schedule": "cosine",
        "warm_up_epochs": 1.0,
        "head_lr_factor": 10.0,
        "freeze_backbone_epochs": 2,
        "batch_size": 64,
    },
}
"""Name → keys of `TrialSettings`; what a search space or an option sets as well wins."""
