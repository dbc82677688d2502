"""The texts of an exported folder: a model card that claims no more than was measured, and how to reproduce it."""

from __future__ import annotations

import shlex
from typing import Any

from tune_mentormix.experiment.experiment import Experiment, Trial
from tune_mentormix.export.manifest import CONFIG_FILE, PROVENANCE_FILE
from tune_mentormix.formatting import format_accuracy, format_value
from tune_mentormix.results.summary import CONTROL_TITLES, summarize

CARD = """\
# {experiment}: trial {trial}

{status}An image classifier trained with MentorMix on labels of which some are wrong, found by a hyperparameter search
with tune-mentormix {version}.

## What it is
- Network `{network}`, images of {height} × {width} pixels, channels: {channels}, classes: {classes}.
- {weights}
- Trained on dataset `{dataset}`: {train_images} training images, {noise}.
- Hyperparameters: {hyperparameters}. All are in `{config_file}`.

## How good it is
| | accuracy, validation split, {labels} labels | epoch |
| --- | --- | --- |
{rows}

{answer}

The validation split has {validation_images} images. {labels_note}

## How it was chosen
Trial {trial} was chosen {chosen}. {caution}

## Cost
{cost}

## Before you use it
- It was not examined for fairness, robustness or images unlike the training images; nothing is claimed about them.
- Its probabilities follow training labels of which some are wrong. `evaluate` measures how well calibrated they are.
- `{provenance_file}` holds the seeds, versions, commit, hardware and the data's fingerprint; `reproduce.sh` measures
  and trains again.
"""

SCRIPT = """\
#!/bin/sh
# Measures the exported weights, then trains the same configuration again and measures that: the same accuracy, bit
# for bit, on the same kind of CPU with the same versions.
# Needs tune-mentormix {version}{commit}, torch {torch}.
# The data, where they lie elsewhere: DATA="--data-dir /path/to/data" ./reproduce.sh
set -eu
cd "$(dirname "$0")"
{evaluate}tune-mentormix train {config_file} --out "${{1:-reproduced}}" ${{DATA:-}}
tune-mentormix evaluate "${{1:-reproduced}}" ${{DATA:-}}
"""


def model_card(experiment: Experiment, trial: Trial, provenance: dict[str, Any]) -> str:
    """The card of a trial in Markdown; `provenance` is the folder's own record."""
    dataset = provenance["dataset"]
    height, width, channels = dataset["image_shape"]
    return CARD.format(
        experiment=experiment.name,
        trial=trial.number,
        status=_status(experiment, trial),
        version=provenance["exported_with"]["versions"]["tune-mentormix"],
        network=trial.config["network"],
        height=height,
        width=width,
        channels=channels,
        classes=dataset["classes"],
        weights=_weights(provenance),
        dataset=dataset["dataset"],
        train_images=dataset["train_images"],
        noise=_noise(dataset["noise_rate"]),
        hyperparameters=_hyperparameters(experiment, trial),
        config_file=CONFIG_FILE,
        labels=experiment.labels_kind,
        rows=_rows(experiment, trial),
        answer=_answer(experiment, provenance),
        validation_images=dataset["validation_images"],
        labels_note=_labels_note(experiment),
        chosen=provenance["chosen"],
        caution=_caution(trial, provenance),
        cost=_cost(provenance["compute"]),
        provenance_file=PROVENANCE_FILE,
    )


def _answer(experiment: Experiment, provenance: dict[str, Any]) -> str:
    confirmation = provenance["confirmation"]
    if confirmation:
        return "\n".join(f"- {sentence}" for sentence in confirmation["verdicts"])
    finding = summarize(experiment)
    return f"{finding.headline}. {finding.explanation}"


def _caution(trial: Trial, provenance: dict[str, Any]) -> str:
    confirmation, seed = provenance["confirmation"], trial.config["seed"]
    if confirmation is None:
        flattered = "It was chosen by the accuracy shown above, which therefore flatters it:"
        once = f"the best of many is in part the luckiest. It was trained once, with seed {seed}."
        return f"{flattered}\n{once} This export holds no accuracy on a test set."
    opened = len(confirmation["test_set_opened"])
    return (
        "Those runs were of this\nconfiguration with other seeds; the table, and the weights, are of its run in the "
        f"search, with seed {seed}.\nThe confirmation opened the test set {opened} ×."
    )


def reproduce_script(provenance: dict[str, Any]) -> str:
    """A shell script that measures the exported weights, if there are any, and trains again."""
    commit = provenance["trained_with"]["commit"]
    return SCRIPT.format(
        version=provenance["trained_with"]["versions"]["tune-mentormix"],
        torch=provenance["trained_with"]["versions"]["torch"],
        commit=f" at commit {commit}" if commit else "",
        evaluate="tune-mentormix evaluate . ${DATA:-}\n" if provenance["model"] else "",
        config_file=shlex.quote(CONFIG_FILE),
    )


def _status(experiment: Experiment, trial: Trial) -> str:
    if trial.state != "finished":
        ran = f"{trial.epoch} of {trial.config['epochs']} epochs"
        return f"**Unfinished: this trial had run {ran} when it was exported.**\n\n"
    if experiment.state() != "finished":
        return "**From an unfinished search: a later trial may be better.**\n\n"
    return ""


def _weights(provenance: dict[str, Any]) -> str:
    model = provenance["model"]
    if model is None:
        return f"**No weights**: {provenance['why_no_model']}."
    chosen = {
        "last": "",
        "best": ", the one with the highest validation accuracy, which is therefore an optimistic figure for it",
    }
    return f"Weights: the moving average of training, after epoch {model['epoch']}{chosen[model['which']]}."


def _noise(rate: float | None) -> str:
    return "an unknown share of them labelled wrongly" if rate is None else f"{rate:.1%} of them labelled wrongly"


def _hyperparameters(experiment: Experiment, trial: Trial) -> str:
    names = [name for name in experiment.space if name in trial.config]
    return ", ".join(f"`{name}` {format_value(trial.config[name])}" for name in names)


def _rows(experiment: Experiment, trial: Trial) -> str:
    rows = [("this trial", trial)] + [
        (CONTROL_TITLES[name], control)
        for name, control in experiment.controls().items()
        if control.number != trial.number
    ]
    return "\n".join(
        f"| {title} | {format_accuracy(row.val_accuracy)} | {row.epoch} of {row.config['epochs']} |"
        for title, row in rows
    )


def _labels_note(experiment: Experiment) -> str:
    if experiment.labels_kind == "clean":
        return "Its labels are known to be the true ones."
    return "Some of its labels are wrong, so not even a perfect classifier would agree with all of them."


def _cost(compute: dict[str, Any]) -> str:
    return "\n".join(
        f"- {title}: {cost['cpu_hours']:.3g} CPU-hours, {cost['gpu_hours']:.3g} GPU-hours, {cost['epochs']} epochs."
        for title, cost in (("The whole search", compute["search"]), ("This trial", compute["trial"]))
    )
