"""The texts of an exported folder: a model card that claims no more than was measured, and how to reproduce it.

Source of the flags: `cifar_train_mentormix.py` and `training_mentormix_command.sh` in
https://github.com/google-research/google-research/tree/master/mentormix/code. They are absl's, so the file can be
handed to the script as `--flagfile=reference_flags.txt`.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from trainables.schedules import STEP_DECAY, STEP_DECAYS
from trainables.settings import TrialSettings
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.formatting import format_value, templates_of
from tune_mentormix.results.clean_terms import clean_estimate, explain_clean_terms
from tune_mentormix.results.summary import control_title, summarize
from tune_mentormix.results.verification_summary import verified_choice

REFERENCE_DATASETS = ("cifar10", "cifar100")

# What the reference has no flag for, and does: a trial that differs cannot be repeated there.
FIXED: dict[str, Any] = {
    "network": "resnet32_wide",
    "mentor": "mentornet_pd",
    "mixing": "hard",
    "partner_temperature": 1.0,
    "pretrained": False,
    "weights": None,
    "augmentation": "reference",
    "optimizer": "sgd",
    "momentum": 0.9,
    "lr_schedule": "steps",
    "warm_up_epochs": 0.0,
    "head_lr_factor": 1.0,
    "freeze_backbone_epochs": 0,
    "gradient_clipping": 0.0,
    "label_smoothing": 0.0,
    "weight_decay": 2e-4,
    "decay_under_second_reweight": False,
    "ema": 0.05,
}

_METHODS = {"mixup": "plain mixup", "plain": "neither mixup nor MentorMix"}  # of controls; all others use MentorMix
_TEMPLATES = templates_of("tune_mentormix.export", html=False)  # Markdown and shell


def model_card(experiment: Experiment, trial: Trial, provenance: dict[str, Any]) -> str:
    """Returns the card of a trial in Markdown; `provenance` is the folder's own record."""
    choice = verified_choice(experiment) if provenance["verification"] else None
    others = [control for control in experiment.controls().values() if control.number != trial.number]
    titled = [("this trial", trial), *((control_title(control), control) for control in others)]
    rows = [
        (title, row, choice[1].estimate_of(row.number) if choice else clean_estimate(experiment, row))
        for title, row in titled
    ]
    summary = summarize(experiment)
    return _TEMPLATES.get_template("model_card.md").render(
        experiment=experiment,
        trial=trial,
        method=_METHODS.get(str(trial.control), "MentorMix"),
        provenance=provenance,
        dataset=provenance["dataset"],
        model=provenance["model"],
        confirmation=provenance["confirmation"],
        hyperparameters=[name for name in experiment.space if name in trial.config],
        rows=rows,
        verification=provenance["verification"],
        clean_note=summary.clean_note if choice else explain_clean_terms([clean for _, _, clean in rows]),
        summary=summary,
    )


def reproduce_script(provenance: dict[str, Any]) -> str:
    """Returns a shell script that measures the exported weights, if there are any, and trains again."""
    return _TEMPLATES.get_template("reproduce.sh").render(provenance)


def reference_flags(experiment: Experiment, trial: Trial) -> str:
    """Returns flags of the reference's training script, and as comments whatever it cannot do alike."""
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
    """Returns what the flags cannot express, one line each."""
    found = []
    if experiment.settings.dataset not in REFERENCE_DATASETS:
        found.append(f"reads {' and '.join(REFERENCE_DATASETS)} only, not {experiment.settings.dataset}")
    burn_in = ceil(settings.burn_in)
    if settings.burn_in != burn_in:
        found.append(
            f"takes whole percents of burn-in: {burn_in}, as which {format_value(settings.burn_in)} acts here"
        )
    if settings.mixup_alpha == 0:
        found.append("cannot train without mixing (mixup_alpha 0)")
    found += [
        f"has {key} {format_value(fixed)}, here {format_value(getattr(settings, key))}"
        for key, fixed in FIXED.items()
        if getattr(settings, key) != fixed and (settings.second_reweight or key != "decay_under_second_reweight")
    ]
    found.append(f"sets no seed, here {settings.seed}")
    return [f"The reference {difference}." for difference in found]
