"""The commands that use the model which a search found: export, train, evaluate, predict."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal

import typer

from tune_mentormix.cli import console
from tune_mentormix.cli.options import (
    AsJson,
    Commands,
    Dashboard,
    Device,
    Insecure,
    Name,
    PlugIns,
    Storage,
    argument,
    option,
    parse_path,
    path_option,
)
from tune_mentormix.cli.progress import long_work, training_progress
from tune_mentormix.config.settings import STORAGE
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import read_experiment
from tune_mentormix.formatting import format_accuracy

WEIGHTS_HELP = (
    "Weights of the last epoch, by which the trial was chosen, or of its epoch of best validation accuracy."
)
METHOD_HELP = "What to export: the best of all that was trained, or the best that uses MentorMix."
STUDY_HELP = "Write all trials as an Optuna study (a journal file) for optuna-dashboard and optuna.load_study."
ALL_IMAGES_HELP = "Train on the validation images too. No validation accuracy exists for such weights."
REFIT_HELP = (
    "First train the configuration on all images, also those of the validation split, and export these weights. "
    "No validation accuracy exists for them."
)
app = Commands("Use the model")

ExportFolder = Annotated[Path, argument("FOLDER", "Folder that export or train wrote.", parser=parse_path)]
DataDir = Annotated[Path | None, path_option("Where the dataset is now. Not set: as exported.")]
LabelsFile = Annotated[Path | None, path_option("Where the label file is now. Not set: as exported.")]
EvaluationSplit = Literal["validation", "test"]


@app.with_examples("export birds --out best", "export birds --out best --refit", "export birds --study birds.log")
def export(
    name: Name,
    out: Annotated[Path | None, path_option("Folder to write into; not needed with --study.")] = None,
    study: Annotated[Path | None, path_option(STUDY_HELP)] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Also write an ONNX file, checked against PyTorch.")] = False,
    weights: Annotated[Literal["last", "best"], typer.Option(help=WEIGHTS_HELP)] = "last",
    method: Annotated[Literal["best", "mentormix"], typer.Option(help=METHOD_HELP)] = "best",
    refit: Annotated[bool, typer.Option("--refit", help=REFIT_HELP)] = False,
    submit: Annotated[bool, typer.Option("--submit", help="With --refit: train as a job of a Ray cluster.")] = False,
    storage: Storage = STORAGE,
    dashboard: Dashboard = None,
    insecure: Insecure = False,
) -> None:
    """Write the best configuration of a search to a folder, with its weights and their provenance."""
    if submit:
        from tune_mentormix.cli.jobs import submit_making

        if not refit:
            raise RequestError("--submit trains on a cluster: add --refit, or leave it out")
        others = {"--out": out, "--study": study, "--onnx": onnx, "--weights best": weights == "best"}
        submit_making(name, "refit", others | {"--method": method != "best"}, storage, dashboard, insecure)
        return
    if out is None and study is None:
        raise RequestError("export needs --out FOLDER, or --study FILE, or both")
    if refit and weights == "best":
        raise RequestError("--refit trains without validation images, so no epoch is the best: leave out --weights")
    experiment = read_experiment(storage, name)
    if study is not None:
        from tune_mentormix.experiment.optuna_study import write_study  # imports Optuna

        console.print_written(write_study(experiment, study))
    if out is None:
        return
    from tune_mentormix.cli.tables import print_exported
    from tune_mentormix.export.write import export_best  # imports torch

    with long_work(), training_progress() if refit else nullcontext() as progress:
        exported = export_best(experiment, out, onnx, weights, method == "mentormix", progress)
    print_exported(exported, experiment.state())


@app.with_examples("train best/best_config.yaml --out trained", "train best --all-images --out trained")
@long_work()
def train(
    config: Annotated[Path, argument("CONFIG", "Exported best_config.yaml, or its folder.", parser=parse_path)],
    out: Annotated[Path, path_option("Folder for checkpoints, metrics and weights.", True)] = Path("trained"),
    seed: Annotated[int | None, option("Random seed. Not set: as exported.")] = None,
    all_images: Annotated[bool, typer.Option("--all-images", help=ALL_IMAGES_HELP)] = False,
    data_dir: DataDir = None,
    labels_file: LabelsFile = None,
    device: Device = "auto",
    plug_in: PlugIns = None,
) -> None:
    """Train an exported configuration to its end. An interrupted training continues when it is called again."""
    from tune_mentormix.export.read import allow_exported, read_exported

    exported = read_exported(config, {"data_dir": data_dir, "labels_file": labels_file})
    allow_exported(exported, plug_in or (), config)
    from tune_mentormix.export.train import train_in_full  # imports torch

    with training_progress() as progress:
        report = train_in_full(exported, out, seed, progress, all_images, device)
    if all_images:
        console.stdout.print("trained on all images: no validation accuracy exists for these weights")
    else:
        accuracy = f"{format_accuracy(report['val_accuracy'])} on {exported.labels} validation labels"
        console.stdout.print(f"accuracy {accuracy} at epoch {exported.config.epochs}, the last")
    console.stdout.print(f"checkpoint and metrics are in {out}")
    split = " --split test" if all_images else ""  # the validation split has been trained on
    console.print_commands({"evaluate": f"evaluate {shlex.quote(str(out))}{split}"})


@app.with_examples("evaluate best", "evaluate best --split test --json")
def evaluate(
    folder: ExportFolder,
    split: Annotated[
        EvaluationSplit, typer.Option(help="Data split to evaluate on; the use of the test set is recorded.")
    ] = "validation",
    data_dir: DataDir = None,
    labels_file: LabelsFile = None,
    device: Device = "auto",
    plug_in: PlugIns = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate exported weights: accuracy, accuracy by class, confusion matrix, calibration."""
    from tune_mentormix.export.read import read_folder
    from tune_mentormix.results.evaluation_log import read_evaluations

    exported = read_folder(folder, {"data_dir": data_dir, "labels_file": labels_file}, plug_in or ())
    if split == "test":
        earlier = len(read_evaluations(folder))
        before = f"AGAIN: it was used {earlier} × before" if earlier else "for the first time"
        console.stderr.print(f"EVALUATING ON THE TEST SET {before}.", style="bold red")
        console.stderr.print(f"This is recorded in {folder}. Choose nothing by it: then it would be a test no more.")
    from tune_mentormix.cli.tables import print_evaluation
    from tune_mentormix.export.evaluate import evaluate_export  # imports torch

    evaluation = evaluate_export(exported, split, device)
    if as_json:
        console.print_json(evaluation.as_json())
    else:
        print_evaluation(evaluation)


@app.with_examples("predict best photo.jpg", "predict best ~/photos --top-k 3 --out predictions.csv")
def predict(
    folder: ExportFolder,
    images: Annotated[list[Path], argument("IMAGE", "Image files, and folders of them.", parser=parse_path)],
    top_k: Annotated[int, typer.Option(min=1, help="How many of the most probable labels to show.")] = 1,
    out: Annotated[Path | None, path_option("CSV file to write, instead of printing.")] = None,
    device: Device = "auto",
    plug_in: PlugIns = None,
    as_json: AsJson = False,
) -> None:
    """Classify images with exported weights."""
    if out is not None and as_json:
        raise RequestError("--out writes CSV: leave out --json")
    from tune_mentormix.export.read import read_folder

    exported = read_folder(folder, None, plug_in or (), ("network",))
    from tune_mentormix.cli.tables import print_predictions, write_predictions
    from tune_mentormix.export.evaluate import image_files, predict_images  # imports torch

    predictions = predict_images(exported, image_files(images), top_k, device)
    if out is not None:
        write_predictions(predictions, top_k, out)
        console.print_written(out)
    elif as_json:
        console.print_json(list(predictions))
    else:
        print_predictions(predictions, top_k)
