"""The settings of one trial and of the data it trains on, validated; free of torch so that reading them is cheap.

The names allowed for networks, mentors, datasets and noise kinds stand here; tests hold the tables of functions
in `networks`, `mentors`, `datasets` and `noise` to exactly these names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

DatasetName = Literal["digits"]
NoiseKind = Literal["symmetric_exclusive", "symmetric_inclusive"]
NetworkName = Literal["small_cnn"]
MentorName = Literal["threshold", "mentornet_pd", "spcl_linear", "focal", "uniform"]
MixingRule = Literal["hard", "interpolated"]
LearningRateSchedule = Literal["steps", "cosine"]

Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Settings(BaseModel):
    """What all settings share: unknown keys are refused, values never change, and NaN or infinity is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataSettings(Settings):
    """Which images and labels a trial sees; equal settings give equal arrays, bit for bit."""

    dataset: DatasetName = "digits"
    data_dir: Path | None = None
    noise: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of labels the noise model changes
    noise_kind: NoiseKind = "symmetric_exclusive"
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2  # of the training images
    data_seed: Seed = 0  # seeds the train/validation split and the label noise


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
    network: NetworkName = "small_cnn"
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    lr_schedule: LearningRateSchedule = "steps"
    weight_decay: Annotated[float, Field(ge=0)] = 2e-4  # L2, on convolution and dense kernels only
    batch_size: Annotated[int, Field(ge=2)] = 128
    ema: Annotated[float, Field(ge=0, le=1)] = 0.05  # horizon of the weight average, as a share of training
    epochs: Annotated[int, Field(ge=1)] = 60
    seed: Seed = 0
