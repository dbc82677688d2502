"""The best of a search as a folder that stands on its own: configuration, weights, where they come from.

Each file is written whole or not at all, `provenance.json` last: a folder without it is an export cut short.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from trainables.checkpoints import CheckpointError, Which, read_weights
from trainables.errors import MissingPackageError, ModelFileError
from trainables.model_files import ModelDescription, ModelFile, write_model
from trainables.onnx_file import check_onnx_packages, write_onnx
from trainables.stored_checkpoint import local_copy
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import Experiment, Trial, newest_checkpoint
from tune_mentormix.experiment.provenance import LABEL_NOISE_FILE
from tune_mentormix.export_records import config_record, search_record
from tune_mentormix.exported_files import (
    CARD_FILE,
    CONFIG_FILE,
    FLAGS_FILE,
    MODEL_FILE,
    ONNX_FILE,
    OPENINGS_FILE,
    PROVENANCE_FILE,
    RECORDED_FILES,
    SCRIPT_FILE,
    ModelRecord,
    write_provenance,
)
from tune_mentormix.model_card import model_card, reproduce_script
from tune_mentormix.reference_flags import reference_flags
from tune_mentormix.results.confirmation import confirmed_winner
from tune_mentormix.storage.yaml_files import write_atomically, write_yaml


@dataclass(frozen=True)
class Exported:
    """What an export wrote."""

    folder: Path
    model: ModelRecord | None
    why_no_model: str | None
    onnx_difference: float | None  # of a probability, between ONNX and PyTorch; None without an ONNX file


def export_best(experiment: Experiment, out: Path, onnx: bool = False, which: Which = "last") -> Exported:
    """Exports the winner of the confirmation, else the best trial; of an unfinished search, the best so far.

    Without a whole checkpoint of that trial, everything but the weights is written. An earlier export in `out` is
    replaced; its record of test set openings stays.

    Args:
        experiment: the search.
        out: the folder to write into, created if missing.
        onnx: whether to write an ONNX file as well.
        which: the weights of the trial's last epoch, by which it was chosen, or of its own best one.

    Raises:
        RequestError: if no trial has reported yet, `out` holds other things or cannot be written, or an ONNX file
            was asked for and cannot be had.
    """
    confirmed = confirmed_winner(experiment)
    best = confirmed.trial if confirmed else experiment.best()
    confirmation = confirmed.record if confirmed else None
    if best is None:
        raise RequestError(f"{experiment.name} has no result to export yet: see status {experiment.name}")
    try:
        model, record = _model_of(experiment, best, which)
        why_no_model = None
    except CheckpointError as error:
        model, record, why_no_model = None, None, str(error)
    try:
        if onnx and model is None:
            raise RequestError(f"there is no ONNX file without weights: {why_no_model}")
        if onnx:
            check_onnx_packages()
        prepare_folder(out)
        difference = _write_model_files(out, model, onnx)
        write_yaml(out / CONFIG_FILE, config_record(experiment, best, confirmation))
        provenance = search_record(experiment, best, confirmation, record, why_no_model)
        write_atomically(out / FLAGS_FILE, reference_flags(experiment, best))
        write_atomically(out / CARD_FILE, model_card(experiment, best, provenance))
        write_atomically(out / SCRIPT_FILE, reproduce_script(provenance))
        (out / SCRIPT_FILE).chmod(0o755)
        write_provenance(out, provenance)
    except (MissingPackageError, ModelFileError) as error:
        raise RequestError(f"{error} (--onnx)") from error
    except OSError as error:
        raise RequestError(f"cannot write to {out}: {error.strerror} (--out)") from error
    return Exported(out, record, why_no_model, difference)


def prepare_folder(out: Path) -> None:
    """Makes the folder, or clears it of an earlier export, its record first.

    Raises:
        RequestError: if it holds anything else.
        OSError: if it cannot be written.
    """
    ours = {*RECORDED_FILES, PROVENANCE_FILE, OPENINGS_FILE}
    if out.is_dir():
        foreign = sorted(path.name for path in out.iterdir() if path.name not in ours and path.name[0] != ".")
        if foreign:
            raise RequestError(f"{out} holds {foreign[0]}, which is no part of an export; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    for name in (PROVENANCE_FILE, *RECORDED_FILES):
        (out / name).unlink(missing_ok=True)


def _model_of(experiment: Experiment, trial: Trial, which: Which) -> tuple[ModelFile, ModelRecord]:
    """The weights of the trial's newest whole checkpoint, which may be older than its latest report.

    Raises:
        CheckpointError: saying why, if there are none.
    """
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
            input_shape=tuple(experiment.settings["provenance"]["dataset"]["image_shape"]),
            precision=trial.config["precision"],
            epoch=trained.epoch,
        )
    except OSError as error:
        raise CheckpointError(f"{LABEL_NOISE_FILE}, which names the classes, cannot be read") from error
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"what the search recorded of its data is damaged ({type(error).__name__})") from error
    record = ModelRecord(which=which, epoch=trained.epoch, val_accuracy=trained.metrics["val_accuracy"])
    return ModelFile(description, trained.weights), record


def _write_model_files(out: Path, model: ModelFile | None, onnx: bool) -> float | None:
    if model is None:
        return None
    write_model(out / MODEL_FILE, model)
    return write_onnx(out / ONNX_FILE, model) if onnx else None
