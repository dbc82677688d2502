"""Exports the best trial of a search as a folder: configuration, weights, model card, and `provenance.json` last."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainables.checkpoint import Which, local_copy, read_weights
from trainables.errors import CheckpointError, MissingPackageError, ModelFileError, one_line
from trainables.model_file import ModelDescription, ModelFile, write_model
from trainables.onnx_export import check_onnx_packages, write_onnx
from trainables.plugins import plugins_in
from trainables.settings import TrialSettings
from tune_mentormix.config.settings import FORMAT, with_storage
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.checkpoints import newest_checkpoint
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.plugins import allow_plugins_of
from tune_mentormix.experiment.provenance import LABEL_NOISE_FILE
from tune_mentormix.experiment.trial import ComputeUsage, Trial
from tune_mentormix.export import manifest
from tune_mentormix.export.manifest import (
    PROVENANCE_FILE,
    RECORDED_FILES,
    ModelRecord,
    environment_record,
    metric_records,
)
from tune_mentormix.export.model_card import model_card, reference_flags, reproduce_script
from tune_mentormix.export.read import ExportedConfig, load_exported_data
from tune_mentormix.export.train import TrainingProgress, train_to_the_end, trained_model
from tune_mentormix.formatting import NOTHING, format_accuracy
from tune_mentormix.results.clean_terms import clean_estimate
from tune_mentormix.results.confirmation_summary import confirmed_best
from tune_mentormix.results.evaluation_log import EVALUATION_LOG, OLD_EXPORT_LOG
from tune_mentormix.results.verification_summary import Verification, verification_record, verified_choice
from tune_mentormix.storage.paths import write_atomically
from tune_mentormix.storage.yaml_files import write_yaml

REFIT_PREFIX = ".refit-"  # of the folder that holds the checkpoint of an interrupted refit


@dataclass(frozen=True)
class Exported:
    """The result of an export."""

    folder: Path
    model: ModelRecord | None
    why_no_model: str | None
    onnx_difference: float | None  # of a probability, between ONNX and PyTorch; None without an ONNX file
    accuracy: str  # of the trial on the validation labels, and what that is on clean ones
    metric: str = "val_accuracy"  # by which the trial and its best epoch were chosen
    plug_ins: tuple[str, ...] = ()  # that the model or its training needs


def export_best(
    experiment: Experiment,
    out: Path,
    onnx: bool = False,
    which: Which = "last",
    with_mentor: bool = False,
    refit: TrainingProgress | None = None,
) -> Exported:
    """Exports the winner of the confirmation, else the best trial (so far, if the search is unfinished).

    `with_mentor` exports the best that uses MentorMix where the winner, or the best, does not. The weights are those
    of the trial's last epoch, by which it was chosen, or of its own best one; without an intact checkpoint all else
    is written. With `refit`, which gets each epoch's report, the configuration is trained on all images first, and
    the weights are those. An earlier export in `out` is replaced, but for its log of test set evaluations.
    Raises RequestError if no trial has reported yet, or a file cannot be written.
    """
    best, confirmation, verification = _chosen(experiment, with_mentor)
    if best is None:
        status = with_storage(f"status {experiment.name}", experiment.path.parent)
        raise RequestError(f"{experiment.name} has no result to export yet: see {status}")
    why_no_model = None
    try:
        if refit:
            model, record = _refit(experiment, best, out, refit)
        else:
            model, record = _model_of(experiment, best, which)
    except CheckpointError as error:
        model, record, why_no_model = None, None, str(error)
    try:
        if onnx and model is None:
            raise RequestError(f"there is no ONNX file without weights: {why_no_model}")
        if onnx:
            check_onnx_packages()
            allow_plugins_of(experiment)
        _prepare_folder(out)
        if model:
            write_model(out / manifest.MODEL_FILE, model)
        difference = write_onnx(out / manifest.ONNX_FILE, model) if model and onnx else None
        write_yaml(out / manifest.CONFIG_FILE, _config_record(experiment, best, confirmation, verification))
        provenance = _search_record(experiment, best, confirmation, verification, record, why_no_model)
        write_atomically(out / manifest.FLAGS_FILE, reference_flags(experiment, best))
        write_atomically(out / manifest.CARD_FILE, model_card(experiment, best, provenance))
        write_atomically(out / manifest.SCRIPT_FILE, reproduce_script(provenance))
        (out / manifest.SCRIPT_FILE).chmod(0o755)
        manifest.write_provenance(out, provenance)
        for folder in out.glob(f"{REFIT_PREFIX}*"):
            shutil.rmtree(folder)
    except (MissingPackageError, ModelFileError) as error:
        raise RequestError(f"{error} (--onnx)") from error
    except OSError as error:
        raise RequestError(f"cannot write to {out}: {one_line(error)} (--out)") from error
    accuracy = f"{format_accuracy(best.val_accuracy)} on {experiment.labels_kind} validation labels"
    if verification:
        accuracy += (
            f"; {verification.estimate_of(best.number) or NOTHING} on right labels ({verification.count} verified)"
        )
    elif clean := clean_estimate(experiment, best):
        accuracy += f", about {clean} on clean ones (estimated; see {manifest.CARD_FILE})"
    needed = tuple(_plug_ins(experiment, best))
    return Exported(out, record, why_no_model, difference, accuracy, experiment.settings.metric, needed)


def _refit(
    experiment: Experiment, trial: Trial, out: Path, progress: TrainingProgress
) -> tuple[ModelFile, ModelRecord]:
    """Trains a trial's configuration on all images; interrupted, it resumes from a checkpoint in `out`."""
    exported = ExportedConfig(
        config=TrialSettings.model_validate(trial.config),
        data=experiment.settings.data_settings(),
        threads=experiment.settings.threads(),
        fingerprint=experiment.provenance.dataset.fingerprint,
        labels=experiment.labels_kind,
        plug_ins=_plug_ins(experiment, trial),
    )
    _check_folder(out)
    allow_plugins_of(experiment)
    dataset = load_exported_data(exported).all_images()
    text = exported.model_dump_json(exclude=None if exported.plug_ins else {"plug_ins"})
    digest = hashlib.sha256(text.encode()).hexdigest()
    trainer = train_to_the_end(exported, dataset, out / f"{REFIT_PREFIX}{digest[:16]}", progress)
    record = ModelRecord(epoch=trainer.epoch, trained_on="all images", val_accuracy=None)
    return trained_model(trainer, dataset), record


def _check_folder(out: Path) -> None:
    """Raises RequestError if the folder holds files that are no export's."""
    ours = {*RECORDED_FILES, PROVENANCE_FILE, EVALUATION_LOG, OLD_EXPORT_LOG}
    names = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    foreign = [name for name in names if name not in ours and name[0] != "."]
    if foreign:
        raise RequestError(f"{out} holds {foreign[0]}, which is no part of an export; choose another --out")


def _prepare_folder(out: Path) -> None:
    """Creates the folder, or removes an earlier export from it. Raises RequestError if it holds other files."""
    _check_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    for name in (PROVENANCE_FILE, *RECORDED_FILES):  # in this order: without provenance it is no export
        (out / name).unlink(missing_ok=True)


def _model_of(experiment: Experiment, trial: Trial, which: Which) -> tuple[ModelFile, ModelRecord]:
    """Returns the weights of the newest intact checkpoint. Raises CheckpointError if there are none."""
    folder = newest_checkpoint(experiment, trial)
    if folder is None:
        raise CheckpointError(f"trial {trial.number} has no whole checkpoint")
    with local_copy(folder) as local:
        trained = read_weights(local, which)
    try:
        class_names = json.loads((experiment.path / LABEL_NOISE_FILE).read_text(encoding="utf-8"))["class_names"]
        description = ModelDescription(
            network=trial.config["network"],
            class_names=tuple(class_names),
            input_shape=experiment.provenance.dataset.image_shape,
            precision=trial.config["precision"],
            epoch=trained.epoch,
        )
    except OSError as error:
        file = experiment.path / LABEL_NOISE_FILE
        raise CheckpointError(f"cannot read {file}, which names the classes: {one_line(error)}") from error
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{LABEL_NOISE_FILE} or the provenance in search.yaml does not tell classes and shape of the images"
        ) from error
    record = ModelRecord(which=which, epoch=trained.epoch, val_accuracy=trained.metrics["val_accuracy"])
    return ModelFile(description, trained.weights), record


def _chosen(
    experiment: Experiment, with_mentor: bool
) -> tuple[Trial | None, dict[str, Any] | None, Verification | None]:
    """Returns the trial to export, the record of the confirmation if it won that, and the verified labels, if any."""
    choice = verified_choice(experiment, with_mentor)
    if choice is None:
        return *(confirmed_best(experiment, with_mentor) or (experiment.best(with_mentor), None)), None
    trial, verification = choice
    confirmed = confirmed_best(experiment, with_mentor) if verification.pool.is_confirmed else None
    return trial, confirmed[1] if confirmed and confirmed[0] is trial else None, verification


def _config_record(
    experiment: Experiment, trial: Trial, confirmation: dict[str, Any] | None, verification: Verification | None
) -> dict[str, Any]:
    """Returns `best_config.yaml`: all that `train` needs, and what the search and its confirmation found."""
    return {
        "format": FORMAT,
        "experiment": experiment.name,
        "search_state": experiment.state(),
        "trial": trial.number,
        "trial_state": trial.state,
        "val_accuracy": trial.val_accuracy,
        "metric": experiment.settings.metric,
        "score": trial.score,
        "epoch": trial.epoch,
        "split": "validation",
        "labels": experiment.labels_kind,
        "controls": {name: control.val_accuracy for name, control in experiment.controls().items()},
        "confirmation": confirmation,
        "verification": verification and verification_record(experiment, verification),
        "config": trial.config,
        "data": experiment.settings.data_settings().model_dump(mode="json"),
        "fingerprint": experiment.provenance.dataset.fingerprint,
        "threads": experiment.settings.threads(),
        "provenance": experiment.provenance.model_dump(mode="json"),
        **({"plug_ins": plug_ins} if (plug_ins := _plug_ins(experiment, trial)) else {}),
    }


def _plug_ins(experiment: Experiment, trial: Trial) -> dict[str, str]:
    """Returns the plug-ins that a trial and its data need, with the digests of their source."""
    kinds = plugins_in(trial.config) | plugins_in(experiment.settings.data_settings().model_dump())
    return {name: experiment.provenance.plug_ins.get(name, "") for name in kinds}


def _search_record(
    experiment: Experiment,
    trial: Trial,
    confirmation: dict[str, Any] | None,
    verification: Verification | None,
    model: ModelRecord | None,
    why_no_model: str | None,
) -> dict[str, Any]:
    """Returns what `provenance.json` holds of a search and the trial taken from it, besides the files' digests."""
    settings, began = experiment.settings, experiment.provenance.model_dump(mode="json")
    return {
        "experiment": experiment.name,
        "search_state": experiment.state(),
        "trial": trial.number,
        "trial_state": trial.state,
        "control": trial.control,
        "chosen": _how_chosen(experiment, trial, confirmation, verification),
        "confirmation": confirmation,
        "verification": verification and verification_record(experiment, verification),
        "model": model and model.model_dump(),
        "why_no_model": why_no_model,
        "metrics": [
            *_trial_metrics(experiment, trial),
            *(
                {"control": name} | record
                for name, control in experiment.controls().items()
                for record in _trial_metrics(experiment, control)
            ),
        ],
        "dataset": settings.data_settings().model_dump(mode="json") | began["dataset"],
        "plug_ins": _plug_ins(experiment, trial),
        "seeds": {"trial": trial.config["seed"], "search": settings.seed, "data": settings.data_seed},
        "compute": {
            "counted": "seconds of every epoch, run twice or not, × cpus_per_trial, gpus_per_trial",
            "search": {"epochs": experiment.epochs_run, **_hours(experiment.usage)},
            "trial": {"epochs": trial.epoch, **_hours(trial.usage)},
        },
        "search": experiment.settings_record(),
        "trained_with": {key: began[key] for key in ("started", "command", "versions", "commit", "host", "platform")},
        "exported_with": environment_record(),
    }


def _how_chosen(
    experiment: Experiment, trial: Trial, confirmation: dict[str, Any] | None, verification: Verification | None
) -> str:
    """Describes which trials were compared, on what."""
    if verification:
        others = f"the noisy validation labels of the others, among {len(verification.pool.candidates)} candidates"
        return f"by {verification.count} labels that people verified and {others}"
    metric = "accuracy" if experiment.metric == "val_accuracy" else experiment.settings.metric
    on = f"{metric} on the {experiment.labels_kind} validation labels"
    if confirmation:
        ran = f"{confirmation['candidates']} configurations, controls among them"
        if not confirmation["is_winner"]:  # export --method mentormix
            ran = f"those with MentorMix of {confirmation['candidates']} configurations"
        return f"by the highest mean {on} over {len(confirmation['seeds'])} fresh seeds, among {ran}"
    if trial.state != "finished":
        return f"by the highest {on} at each trial's latest epoch so far: no trial had run to the end"
    finished, kind = experiment.finished_trials(), "trials"
    if trial is not experiment.best():  # export --method mentormix
        finished, kind = [each for each in finished if each.uses_mentor], "trials with MentorMix"
    chosen = f"by the highest {on} at the last epoch, among {len(finished)} {kind} that ran to the end"
    return chosen if experiment.state() == "finished" else f"{chosen}; the search was unfinished"


def _trial_metrics(experiment: Experiment, trial: Trial) -> list[dict[str, Any]]:
    return metric_records(trial.reports.get(trial.epoch, {}), trial.epoch, experiment.labels_kind)


def _hours(usage: ComputeUsage) -> dict[str, float]:
    return {"cpu_hours": round(usage.cpu_hours, 6), "gpu_hours": round(usage.gpu_hours, 6)}
