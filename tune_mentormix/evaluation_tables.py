"""What `export`, `evaluate` and `predict` print: every figure with its split and its labels."""

from __future__ import annotations

from rich.table import Column, Table
from rich.text import Text

from trainables.evaluation import CALIBRATION_BINS, wilson_interval
from tune_mentormix.console import stdout
from tune_mentormix.export.evaluate import ExportEvaluation, Prediction
from tune_mentormix.export.manifest import CONFIG_FILE
from tune_mentormix.export.write import Exported
from tune_mentormix.formatting import NOTHING, format_accuracy

LARGEST_MATRIX = 20  # classes; a larger one does not fit a terminal, and is in the JSON


def print_exported(exported: Exported, state: str, commands: str) -> None:
    """Where everything went, what is missing, and how to go on with it."""
    folder = exported.folder
    unfinished = "" if state == "finished" else f" (from a search that is {state}: labelled so)"
    stdout.print(f"wrote {folder}{unfinished}", markup=False)
    if exported.model and exported.model.which == "best":
        accuracy = format_accuracy(exported.model.val_accuracy)
        stdout.print(f"weights of epoch {exported.model.epoch}, the best by validation accuracy: {accuracy}")
    if exported.model is None:
        stdout.print(f"without weights: {exported.why_no_model}", style="yellow", markup=False)
    if exported.onnx_difference is not None:
        stdout.print(f"ONNX and PyTorch agree to {exported.onnx_difference:.1g} in every probability")
    stdout.print(f"  train    {commands} train {folder / CONFIG_FILE} --out trained", markup=False)
    if exported.model is not None:
        stdout.print(f"  measure  {commands} evaluate {folder}", markup=False)
        stdout.print(f"  use      {commands} predict {folder} IMAGES…", markup=False)


def print_evaluation(evaluation: ExportEvaluation) -> None:
    """Accuracy, calibration, classes, confusion."""
    on = f"{evaluation.labels} {evaluation.split} labels"
    measurement = evaluation.measurement
    low, high = wilson_interval(measurement.correct, measurement.images)
    accuracy = f"{format_accuracy(measurement.accuracy)} on {on}"
    interval = f"95 % interval {low:.4f} to {high:.4f} (Wilson), {measurement.correct} of {measurement.images} images"
    stdout.print(f"accuracy           {accuracy}: {interval}")
    if evaluation.recorded_accuracy is not None:
        stdout.print(f"recorded           {_against_record(evaluation)}")
    error = f"{measurement.calibration_error:.4f} on {on}, {CALIBRATION_BINS} bins"
    stdout.print(f"calibration error  {error}\n")
    stdout.print(_class_table(evaluation, on))
    if len(evaluation.class_names) <= LARGEST_MATRIX:
        stdout.print(f"\nconfusion on {on}: rows are the labels, columns what they were taken for")
        stdout.print(_confusion_table(evaluation))
    else:
        stdout.print(f"\nThe confusion of {len(evaluation.class_names)} classes is in --json.")


def print_predictions(predictions: list[Prediction]) -> None:
    """One line an image."""
    table = Table("image", "label", "probability", box=None, pad_edge=False)
    for prediction in predictions:
        table.add_row(Text(prediction.image), Text(prediction.label), f"{prediction.probability:.4f}")
    stdout.print(table)


def _against_record(evaluation: ExportEvaluation) -> str:
    recorded, now = evaluation.recorded_accuracy, evaluation.measurement.accuracy
    trained = f"{recorded} on the same images and labels, after epoch {evaluation.epoch}"
    if recorded == now:
        return f"{trained}: the same to the last digit"
    return f"{trained}; now {now}: processors differ in how they round"


def _class_table(evaluation: ExportEvaluation, on: str) -> Table:
    table = Table("class", f"accuracy, {on}", "95 % interval", "images", box=None, pad_edge=False)
    for name, correct, images in evaluation.by_class():
        low, high = wilson_interval(correct, images)
        interval = f"{low:.4f} to {high:.4f}" if images else NOTHING
        table.add_row(Text(name), format_accuracy(correct / images if images else None), interval, str(images))
    return table


def _confusion_table(evaluation: ExportEvaluation) -> Table:
    table = Table("", *(Column(Text(name)) for name in evaluation.class_names), box=None, pad_edge=False)
    for name, row in zip(evaluation.class_names, evaluation.measurement.confusion.tolist(), strict=True):
        table.add_row(Text(name, style="bold"), *(str(count) if count else "·" for count in row))
    return table
