"""The tables of confirm, compare, labels, export, evaluate and predict. Imports SciPy: import it when needed."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from trainables.errors import one_line
from trainables.metrics import CALIBRATION_BINS, wilson_interval
from tune_mentormix.cli.console import (
    hyperparameters,
    print_commands,
    print_json,
    print_note,
    print_table,
    stderr,
    stdout,
)
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.export.manifest import CONFIG_FILE
from tune_mentormix.formatting import NOTHING, format_accuracy, format_duration, format_value
from tune_mentormix.results.candidates import Ablation, Candidate
from tune_mentormix.results.clean_terms import explain_clean_terms
from tune_mentormix.results.comparison import Comparison, result_rows, setting_rows, verdict
from tune_mentormix.results.confirmation import Confirmation
from tune_mentormix.results.confirmation_summary import confirmation_record, verdicts

if TYPE_CHECKING:
    from tune_mentormix.export.evaluate import ExportEvaluation, Prediction  # imports torch
    from tune_mentormix.export.write import Exported
    from tune_mentormix.results.suspicious_labels import Correction, LabelTable

MAX_MATRIX_CLASSES = 20  # a larger confusion matrix does not fit a terminal, and is in the JSON
MAX_LABELS = 10  # suspicious ones shown; all are in the file


def print_comparison(comparison: Comparison) -> None:
    """Prints the verdict, the results and the settings that differ."""
    stdout.print(verdict(comparison), style="bold yellow" if comparison.obstacles else None)
    names = [experiment.name for experiment in comparison.experiments]
    for rows in filter(None, (result_rows(comparison), setting_rows(comparison))):
        stdout.print()
        print_table(("", *names), ((heading, *cells) for heading, cells in rows))
    if leads := comparison.leads():
        stdout.print("", *map(str, leads), sep="\n")
        stdout.print("That is about these trained networks and these labels; confirm trains on fresh seeds.")
    if not comparison.differing:
        stdout.print("\nTheir settings are the same.")


def print_confirmation(confirmation: Confirmation, experiment: Experiment, as_json: bool) -> None:
    """Prints the state of a search's confirmation, and the answer if it is complete; all of it or as JSON."""
    evaluations = confirmation.test_evaluations
    if confirmation.no_test:
        print_note(f"there is no test set to evaluate on: {confirmation.no_test}")
    if len(evaluations) > 1:
        dates = ", ".join(evaluation["opened"] for evaluation in evaluations)
        stderr.print(
            f"WARNING: The test set was used {len(evaluations)} times ({dates}). What was changed after the first "
            "time may have been chosen by it: state that wherever you quote these figures.",
            style="bold red",
        )
    if as_json:
        print_json({"name": experiment.name, **confirmation_record(confirmation)})
        return
    winner, seeds = confirmation.winner(), len(confirmation.seeds)
    ran = f"{confirmation.runs.ended_trials()} of {confirmation.planned()} runs, {seeds} seeds"
    stdout.print(f"\n{experiment.name}, confirmed: {ran}, {format_duration(confirmation.runs.seconds)}")
    _print_candidates(confirmation, winner)
    for name, why in confirmation.eliminated.items():
        stdout.print(f"{name} was eliminated: {why}")
    ablations = confirmation.ablations()
    for candidate in [*(c for c in confirmation.candidates if c.control), *ablations]:
        if failure := confirmation.failure(candidate):
            stdout.print(f"{candidate.title} {failure}", style="yellow")
    if winner:
        stdout.print("", *verdicts(confirmation, winner), sep="\n")
        stdout.print(f"{winner.title}: {hyperparameters(winner.config)}")
    if ablations:
        stdout.print()
        _print_ablations(confirmation, ablations)
    elif winner and confirmation.ablate:
        reason = "has the published value of every hyperparameter"
        if winner.control or not winner.uses_mentor:
            reason = "is a control" if winner.control else "does not use a mentor"
        stdout.print(f"The winner {reason}: there is nothing to ablate.")
    if winner:
        stdout.print(confirmation.about_intervals())
    if evaluation := confirmation.test_evaluation:
        stdout.print(
            f"Test intervals (95 %) are over seeds, on the same {evaluation['images']} images of the test set, which "
            f"was used at {evaluation['opened']}, after the winner was chosen on validation."
        )
    later = experiment.ended_trials() - confirmation.searched
    if later:
        stdout.print(f"The search has run {later} more trials since these candidates were chosen.", style="yellow")
    stdout.print(f"\nEverything is in {confirmation.runs.path}")
    is_complete = confirmation.is_complete and not confirmation.has_ablations_left
    if not is_complete or confirmation.runs.ended == "interrupted":
        print_commands({"continue": f"confirm {experiment.name}"}, experiment.path.parent)


def _by(confirmation: Confirmation) -> str:
    return "" if confirmation.runs.metric == "val_accuracy" else f" by {confirmation.runs.settings.metric}"


def leader_so_far(confirmation: Confirmation) -> str:
    """Returns the leading candidate and its accuracy."""
    leader = next(iter(confirmation.ranking()), None)
    if leader is None:
        return NOTHING
    accuracy = confirmation.validation(leader)
    return f"{leader.title}, {accuracy} on {confirmation.runs.labels_kind} validation labels{_by(confirmation)}"


def _print_candidates(confirmation: Confirmation, winner: Candidate | None) -> None:
    """Prints every candidate, by rank."""
    candidates, labels = confirmation.in_order(), confirmation.validation_labels
    headings = ["", "rank by search", "rank confirmed", "seeds", f"validation, {labels}: best / last epoch"]
    if confirmation.test_evaluation:
        headings.append("test, clean labels")
    if note := confirmation.clean_note:
        headings.insert(5, "on clean labels")
    rows = []
    for candidate in candidates:
        ranks = (format_value(candidate.search_rank), format_value(confirmation.rank(candidate)))
        seeds, validation = len(confirmation.accuracies(candidate)), confirmation.best_and_last(candidate)
        rows.append([candidate.title, *ranks, str(seeds), validation or NOTHING])
        if note:
            estimate = confirmation.clean_estimate(candidate)
            rows[-1].append(f"about {estimate}" if estimate else NOTHING)
        if confirmation.test_evaluation:
            rows[-1].append(str(confirmation.test(candidate) or NOTHING))
    print_table(headings, rows, bold=candidates.index(winner) if winner else None)
    if note:
        stdout.print(note)


def _print_ablations(confirmation: Confirmation, ablations: list[Ablation]) -> None:
    headings = ["", "seeds", f"validation, {confirmation.runs.labels_kind} labels", "points from the winner"]
    rows = []
    for ablation in ablations:
        difference = confirmation.difference_to_winner(ablation)
        cells = (len(confirmation.accuracies(ablation)), confirmation.validation(ablation) or NOTHING)
        rows.append([ablation.name, *map(str, cells), difference.in_points() if difference else NOTHING])
    print_table(headings, rows)


def print_exported(exported: Exported, state: str) -> None:
    """Prints what an export wrote and what is missing, and the commands that use it."""
    folder, model = exported.folder, exported.model
    unfinished = "" if state == "finished" else f" (from a search that is {state}: labelled so)"
    stdout.print(f"wrote {folder}{unfinished}")
    stdout.print(f"accuracy in the search: {exported.accuracy}")
    if model and model.trained_on == "all images":
        stdout.print(f"weights of epoch {model.epoch}, trained on all images: no validation accuracy exists for them")
    if model and model.which == "best":
        metric = "validation accuracy" if exported.metric == "val_accuracy" else exported.metric
        accuracy = format_accuracy(model.val_accuracy)
        stdout.print(f"weights of epoch {model.epoch}, the best by {metric}: accuracy {accuracy}")
    if model is None:
        stdout.print(f"without weights: {exported.why_no_model}", style="yellow")
    if exported.onnx_difference is not None:
        stdout.print(f"ONNX and PyTorch agree to {exported.onnx_difference:.1g} in every probability")
    plug_ins = "".join(f" --plug-in {name}" for name in exported.plug_ins)
    commands = {"train": f"train {shlex.quote(str(folder / CONFIG_FILE))} --out trained{plug_ins}"}
    if model:
        quoted = shlex.quote(str(folder))
        split = " --split test" if model.trained_on == "all images" else ""
        commands |= {
            "evaluate": f"evaluate {quoted}{split}{plug_ins}",
            "predict": f"predict {quoted} IMAGES…{plug_ins}",
        }
    print_commands(commands)


def print_evaluation(evaluation: ExportEvaluation) -> None:
    """Prints accuracy and calibration, accuracy by class, and the confusion matrix."""
    on = f"{evaluation.labels} {evaluation.split} labels"
    measurement, names = evaluation.measurement, evaluation.class_names
    accuracy, correct, images = measurement.accuracy, measurement.correct, measurement.images
    interval = f"95 % interval {_wilson(correct, images)} (Wilson), {correct} of {images} images"
    stdout.print(f"accuracy           {format_accuracy(accuracy)} on {on}: {interval}")
    for name, value in measurement.other_metrics.items():
        stdout.print(f"{name:18} {format_accuracy(value)} on {on}")
    if evaluation.clean_estimate:
        stdout.print(f"on clean labels    about {evaluation.clean_estimate}")
        stdout.print(f"                   {explain_clean_terms([evaluation.clean_estimate])}")
    recorded = evaluation.recorded_accuracy
    if recorded is not None:
        equal = recorded == accuracy
        now = ": the same to the last digit" if equal else f"; now {accuracy}: processors differ in how they round"
        stdout.print(
            f"recorded           {recorded} on the same images and labels, after epoch {evaluation.epoch}{now}"
        )
    stdout.print(f"calibration error  {measurement.calibration_error:.4f} on {on}, {CALIBRATION_BINS} bins\n")
    print_table(
        ("class", f"accuracy, {on}", "95 % interval", "images"),
        (
            (name, format_accuracy(right / count if count else None), _wilson(right, count), str(count))
            for name, right, count in evaluation.by_class()
        ),
    )
    if len(names) > MAX_MATRIX_CLASSES:
        stdout.print(f"\nThe confusion of {len(names)} classes is in --json.")
        return
    stdout.print(f"\nconfusion on {on}: rows are the labels, columns what they were taken for")
    matrix = zip(names, measurement.confusion.tolist(), strict=True)
    print_table(
        ("", *names),
        ([Text(name, style="bold"), *(str(count) if count else "·" for count in row)] for name, row in matrix),
    )


def _wilson(correct: int, images: int) -> str:
    """Returns the 95 % interval of an accuracy; a dash without images."""
    low, high = wilson_interval(correct, images)
    return f"{low:.4f} to {high:.4f}" if images else NOTHING


def print_predictions(predictions: Iterable[Prediction], top_k: int) -> None:
    """Prints the most probable labels, one image a row."""
    rows = []
    for prediction in predictions:
        cells = [cell for label, probability in prediction.top for cell in (label, f"{probability:.4f}")]
        rows.append([prediction.image, *cells])
    print_table(("image", *_prediction_columns(top_k)), rows)


def write_predictions(predictions: Iterable[Prediction], top_k: int, out: Path) -> None:
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


def print_labels(table: LabelTable) -> None:
    """Prints how many labels are suspicious, the worst of them, and how far the scores can be trusted."""
    count, held_out = len(table.names), int(table.out_of_fold.sum())
    stdout.print(f"{count} labels scored by {table.source}, {held_out} of them out of fold")
    wrong = table.estimated_wrong()
    about = "" if wrong is None else f"; about {100 * wrong:.1f} % of the labels are wrong (estimated)"
    stdout.print(f"another class is more probable for {table.disagreements()}{about}\n")
    columns = ("image", "given", "suggested", "p_given", "score", "rank", "out_of_fold")
    print_table(columns, ([printable(str(cell)) for cell in row] for row in table.rows(MAX_LABELS)))
    if held_out < count:
        print_note(
            f"{count - held_out} labels are scored by networks that were trained on them and may have memorised "
            "them. After a confirmation (confirm), every image is scored out of fold."
        )
    if formulas := table.formula_like():
        print_note(
            f"{formulas} images have a name or class that a spreadsheet takes for a formula. Names stay unchanged in "
            "the files: import the columns as text."
        )


def print_correction(correction: Correction, path: Path) -> None:
    """Prints what a label file holds, and how to search with it."""
    done = f"{correction.dropped} images left out" if correction.dropped else f"{correction.replaced} labels replaced"
    sampled = f", {correction.in_sample} of them not scored out of fold" if correction.in_sample else ""
    stdout.print(f"wrote {path}: {correction.images} labels, {done}{sampled}")
    print_commands({"search": f"search --labels-file {shlex.quote(str(path))} …"})


def printable(text: str) -> str:
    """Returns a name as it is, or quoted where a terminal would act on a character of it."""
    return text if text.isprintable() else repr(text)
