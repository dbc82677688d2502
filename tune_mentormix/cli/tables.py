"""The tables of the commands confirm, compare, export, evaluate and predict. Imports SciPy: import it when needed."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Column, Table
from rich.text import Text

from trainables.errors import one_line
from trainables.metrics import CALIBRATION_BINS, wilson_interval
from tune_mentormix.cli.console import hyperparameters, print_json, stderr, stdout, storage_option
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.export.manifest import CONFIG_FILE
from tune_mentormix.formatting import NOTHING, format_accuracy, format_duration, format_value
from tune_mentormix.results.comparison import Comparison, result_rows, setting_rows, verdict
from tune_mentormix.results.confirmation import Candidate, Confirmation, confirmation_record, verdicts

if TYPE_CHECKING:
    from tune_mentormix.export.evaluate import ExportEvaluation, Prediction  # imports torch
    from tune_mentormix.export.write import Exported


def print_comparison(comparison: Comparison) -> None:
    """The verdict and both tables."""
    stdout.print(verdict(comparison), style="bold yellow" if comparison.obstacles else None, markup=False)
    names = [experiment.name for experiment in comparison.experiments]
    for rows in (result_rows(comparison), setting_rows(comparison)):
        if not rows:
            continue
        table = Table("", *names, box=None, pad_edge=False)
        for heading, cells in rows:
            table.add_row(heading, *map(Text, cells))
        stdout.print()
        stdout.print(table)
    if not comparison.differing:
        stdout.print("\nTheir settings are the same.")


def print_confirmation(confirmation: Confirmation, experiment: Experiment, commands: str, as_json: bool) -> None:
    """The state of a confirmation; where it is complete, the answer.

    Args:
        confirmation: of the experiment.
        experiment: the search.
        commands: how the user calls this program, for the commands printed.
        as_json: whether to print one JSON document on stdout.
    """
    _print_openings(confirmation)
    if as_json:
        print_json({"name": experiment.name, **confirmation_record(confirmation)})
    else:
        _print_tables(confirmation, experiment, commands)


def _print_tables(confirmation: Confirmation, experiment: Experiment, commands: str) -> None:
    winner = confirmation.winner()
    seeds = len(confirmation.seeds)
    ran = f"{confirmation.runs.ended_trials()} of {confirmation.planned()} runs, {seeds} seeds"
    stdout.print(f"\n{experiment.name}, confirmed: {ran}, {format_duration(confirmation.runs.seconds)}")
    stdout.print(_table(confirmation, winner))
    for name, why in confirmation.ruled_out.items():
        stdout.print(f"{name} was ruled out: {why}", markup=False)
    for candidate in confirmation.candidates:
        failure = confirmation.failure(candidate)
        if failure and candidate.control:
            stdout.print(f"{candidate.title} {failure}", style="yellow", markup=False)
    if winner:
        stdout.print()
        for sentence in verdicts(confirmation, winner):
            stdout.print(sentence, markup=False)
        stdout.print(f"{winner.title}: {hyperparameters(winner.config)}", markup=False)
    _print_cautions(confirmation, experiment)
    stdout.print(f"\nEverything is in {confirmation.runs.path}", markup=False)
    if not confirmation.is_complete or confirmation.runs.ended == "interrupted":
        storage = storage_option(experiment.path.parent)
        stdout.print(f"  continue {commands} confirm {experiment.name}{storage}", markup=False)


def _print_openings(confirmation: Confirmation) -> None:
    """On stderr, that the test set was opened more than once, or could not be opened."""
    if confirmation.no_test:
        stderr.print(f"there is no test set to open: {confirmation.no_test}", style="yellow", markup=False)
    if len(confirmation.openings) > 1:
        dates = ", ".join(opening["opened"] for opening in confirmation.openings)
        times = f"The test set was opened {len(confirmation.openings)} times ({dates})"
        caution = (
            "what was changed after the first may owe its accuracy to it: say so wherever you quote these figures"
        )
        stderr.print(f"WARNING: {times}; {caution}.", style="bold red", markup=False)


def leader_so_far(confirmation: Confirmation) -> str:
    """The leading candidate, for the progress shown."""
    leader = next(iter(confirmation.ranking()), None)
    if leader is None:
        return "–"
    interval, labels = confirmation.validation(leader), confirmation.runs.labels_kind
    return f"{leader.title}, {interval} on {labels} validation labels"


def _table(confirmation: Confirmation, winner: Candidate | None) -> Table:
    """Every candidate, those that compete first, by rank."""
    table = Table(box=None, pad_edge=False)
    for heading in ("", "rank by search", "rank confirmed", "seeds"):
        table.add_column(heading)
    table.add_column(f"validation, {confirmation.runs.labels_kind} labels")
    if confirmation.opening:
        table.add_column("test, clean labels")
    for candidate in confirmation.in_order():
        ranks = (format_value(candidate.search_rank), format_value(confirmation.rank(candidate)))
        seeds, validation = len(confirmation.accuracies(candidate)), confirmation.validation(candidate) or NOTHING
        cells = [candidate.title, *ranks, str(seeds), str(validation)]
        if confirmation.opening:
            cells.append(str(confirmation.test(candidate) or NOTHING))
        table.add_row(*map(Text, cells), style="bold" if candidate == winner else None)
    return table


def _print_cautions(confirmation: Confirmation, experiment: Experiment) -> None:
    opening = confirmation.opening
    if opening:
        stdout.print(
            f"Intervals are over seeds, at 95 %, on the same images: {opening['images']} in the test set, which was "
            f"opened at {opening['opened']}, after the winner was chosen on validation.",
            markup=False,
        )
    later = experiment.ended_trials() - confirmation.searched
    if later:
        stdout.print(f"The search has run {later} more trials since these candidates were chosen.", style="yellow")


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
        stdout.print(f"  evaluate {commands} evaluate {folder}", markup=False)
        stdout.print(f"  predict  {commands} predict {folder} IMAGES…", markup=False)


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


def print_predictions(predictions: list[Prediction], top_k: int) -> None:
    """Prints the most probable labels, one image a row."""
    table = Table("image", *_prediction_columns(top_k), box=None, pad_edge=False)
    for prediction in predictions:
        cells = [cell for label, probability in prediction.top for cell in (label, f"{probability:.4f}")]
        table.add_row(Text(prediction.image), *map(Text, cells))
    stdout.print(table)


def write_predictions(predictions: Iterator[Prediction], top_k: int, out: Path) -> None:
    """Writes the most probable labels as CSV, batch by batch. Raises RequestError if that is impossible."""
    try:
        with out.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["image", *_prediction_columns(top_k)])
            for prediction in predictions:
                writer.writerow([prediction.image, *(cell for pair in prediction.top for cell in pair)])
    except OSError as error:
        raise RequestError(f"cannot write {out}: {one_line(error)} (--out)") from error


def _prediction_columns(top_k: int) -> list[str]:
    numbers = ["", *(f"_{n}" for n in range(2, top_k + 1))]
    return [f"{column}{number}" for number in numbers for column in ("label", "probability")]


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
