"""An exported setting as flags of the reference's training script, to repeat it there.

Source: `cifar_train_mentormix.py` and `training_mentormix_command.sh` in
https://github.com/google-research/google-research/tree/master/mentormix/code. Its flags are absl's, so the file
can be handed to it as `--flagfile=reference_flags.txt`.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from trainables.schedules import STEP_DECAY, STEP_DECAYS
from trainables.settings import TrialSettings
from tune_mentormix.experiment.experiment import Experiment, Trial
from tune_mentormix.formatting import format_value

REFERENCE_DATASETS = ("cifar10", "cifar100")

# What the reference has no flag for, and does: a trial that differs cannot be repeated there.
FIXED: dict[str, Any] = {
    "network": "resnet32_wide",
    "mentor": "mentornet_pd",
    "mixing": "hard",
    "partner_temperature": 1.0,
    "pretrained": False,
    "augmentation": "reference",
    "lr_schedule": "steps",
    "weight_decay": 2e-4,
    "decay_under_second_reweight": False,
    "ema": 0.05,
}


def reference_flags(experiment: Experiment, trial: Trial) -> str:
    """The file's text: one flag a line, and as comments whatever the reference cannot do alike."""
    settings = TrialSettings.model_validate(trial.config)
    steps_per_epoch = experiment.provenance.dataset.train_images // settings.batch_size
    flags: dict[str, Any] = {
        "dataset_name": experiment.settings.dataset,
        "studentnet": "resnet32",
        "trained_mentornet_dir": "mentornet_models/mentornet_pd",
        "mixup_alpha": settings.mixup_alpha,
        "loss_p_percentile": settings.loss_p_percentile,
        "burn_in_epoch": ceil(settings.burn_in),  # the percent of training is whole: 10.29 acts as 11
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "learning_rate_decay_factor": STEP_DECAY,
        "num_epochs_per_decay": round(settings.epochs / STEP_DECAYS, 6),
        "max_number_of_steps": settings.epochs * steps_per_epoch,
    }
    lines = [
        "# Flags of cifar_train_mentormix.py of MentorMix's reference implementation: --flagfile=reference_flags.txt",
        "# Add --data_dir, with the noisy labels in the reference's own format, and --train_log_dir.",
        *(f"# {difference}" for difference in _differences(experiment, settings)),
        *(f"--{name}={value}" for name, value in flags.items()),
        "--second_reweight" if settings.second_reweight else "--nosecond_reweight",
    ]
    return "\n".join(lines) + "\n"


def _differences(experiment: Experiment, settings: TrialSettings) -> list[str]:
    """What the flags cannot say, one line each."""
    found = []
    if experiment.settings.dataset not in REFERENCE_DATASETS:
        found.append(f"reads {' and '.join(REFERENCE_DATASETS)} only, not {experiment.settings.dataset}")
    if settings.burn_in != ceil(settings.burn_in):
        burn_in = format_value(settings.burn_in)
        found.append(f"takes whole percents of burn-in: {ceil(settings.burn_in)}, as which {burn_in} acts here")
    if settings.mixup_alpha == 0:
        found.append("cannot train without mixing (mixup_alpha 0)")
    matters = set(FIXED) if settings.second_reweight else set(FIXED) - {"decay_under_second_reweight"}
    found += [
        f"has {key} {format_value(fixed)}, here {format_value(getattr(settings, key))}"
        for key, fixed in FIXED.items()
        if key in matters and getattr(settings, key) != fixed
    ]
    found.append(f"sets no seed, here {settings.seed}")
    return [f"The reference {difference}." for difference in found]
