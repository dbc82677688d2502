"""The commands for what a search found: confirm it, show it, hand it over, and use what was handed over."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tune_mentormix.cli import console
from tune_mentormix.cli import options as ask
from tune_mentormix.cli.options import STORAGE, AsJson, Name, Storage, Verbose, command, option
from tune_mentormix.cli.progress import SearchProgress, TrainingProgress
from tune_mentormix.errors import INTERRUPTED, RequestError, SearchFailedError
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.storage.lease import Lease

app = typer.Typer()

REPORT_DEFAULT = "report.html in the experiment's folder; of one in an object store, NAME-report.html here"
ExportFolder = Annotated[Path, typer.Argument(help="What export or train wrote.", show_default=False)]
DataDir = Annotated[Path | None, option("Where the dataset lies now.", "as exported")]
LabelsFile = Annotated[Path | None, option("Where the label file lies now.", "as exported")]
EvaluationSplit = Literal["validation", "test"]
NOT_RESOURCES = ("name", "top_k", "seeds", "storage", "as_json", "verbose")  # of the options of `confirm`
ABLATE_HELP = "First train the best anew with each hyperparameter moved back to its published value."
STUDY_HELP = "Write all trials as an Optuna study (a journal file) for optuna-dashboard and optuna.load_study."
WEIGHTS_HELP = "Of its last epoch, by which it was chosen, or of its best by validation accuracy."


@app.command()
def confirm(
    name: Name,
    top_k: Annotated[int | None, option("How many of the best configurations.", "5, or as before")] = None,
    seeds: Annotated[int | None, option("Fresh seeds, the same for all.", "5, or as before")] = None,
    time_budget: Annotated[str | None, option(ask.TIME_BUDGET_HELP, "none")] = None,  # the search's does not apply
    cpus_per_trial: ask.CpusPerTrial = None,
    gpus_per_trial: ask.GpusPerTrial = None,
    max_concurrent: ask.MaxConcurrent = None,
    storage: Storage = STORAGE,
    address: ask.Address = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Train the best and the controls on fresh seeds, then open the test set; goes on where it was interrupted."""
    changes = {key: value for key, value in locals().items() if key not in NOT_RESOURCES}
    Lease(read_experiment(storage, name).path).check_free()  # said at once, before torch and Ray are imported
    from tune_mentormix.cli.tables import leader_so_far, print_confirmation
    from tune_mentormix.search.confirm import confirm_search  # imports torch and Ray

    with SearchProgress("confirm", "confirm", leader_so_far) as progress:
        confirmation = confirm_search(storage, name, top_k, seeds, changes, progress, verbose)
    print_confirmation(confirmation, read_experiment(storage, name), command(), as_json)
    if confirmation.is_complete and confirmation.winner() is None:
        raise SearchFailedError("a run of every candidate failed: there is no winner")
    if confirmation.ended == "all_failing":
        raise SearchFailedError("every run failed: see the reasons above")
    if confirmation.ended == "interrupted":
        raise typer.Exit(INTERRUPTED)


@app.command()
def export(
    name: Name,
    out: Annotated[Path | None, option("The folder to write into; not needed with --study.")] = None,
    study: Annotated[Path | None, option(STUDY_HELP)] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write an ONNX file too, checked against PyTorch.")] = False,
    weights: Annotated[Literal["last", "best"], typer.Option(help=WEIGHTS_HELP)] = "last",
    storage: Storage = STORAGE,
) -> None:
    """Write the best of a search to a folder: its configuration, weights, and where they come from."""
    if out is None and study is None:
        raise RequestError("export needs --out FOLDER, or --study FILE, or both")
    experiment = read_experiment(storage, name)
    if study is not None:
        from tune_mentormix.experiment.optuna_study import write_study  # imports Optuna

        console.print_written(write_study(experiment, study))
    if out is None:
        return
    from tune_mentormix.cli.tables import print_exported
    from tune_mentormix.export.write import export_best  # imports torch

    print_exported(export_best(experiment, out, onnx, weights), experiment.state(), command())


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="An exported best_config.yaml, or its folder.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Where checkpoints, metrics and weights go.")] = Path("trained"),
    seed: Annotated[int | None, option("Another seed than the exported one.")] = None,
    data_dir: DataDir = None,
    labels_file: LabelsFile = None,
) -> None:
    """Train an exported configuration in full; goes on where an interrupted training stopped."""
    from tune_mentormix.export.read import read_exported

    exported = read_exported(config, {"data_dir": data_dir, "labels_file": labels_file})
    from tune_mentormix.export.train import train_in_full  # imports torch

    with TrainingProgress() as progress:
        report = train_in_full(exported, out, seed, progress)
    console.print_trained(report, exported.config.epochs, exported.labels, out)


@app.command()
def evaluate(
    folder: ExportFolder,
    split: Annotated[EvaluationSplit, typer.Option(help="Of the data; test opens the test set.")] = "validation",
    data_dir: DataDir = None,
    labels_file: LabelsFile = None,
    as_json: AsJson = False,
) -> None:
    """Measure exported weights: accuracy, each class, confusion, calibration."""
    from tune_mentormix.export.evaluate import count_openings
    from tune_mentormix.export.read import read_folder

    exported = read_folder(folder, {"data_dir": data_dir, "labels_file": labels_file})
    if split == "test":
        console.warn_of_opening(folder, count_openings(folder))
    from tune_mentormix.cli.tables import print_evaluation
    from tune_mentormix.export.evaluate import evaluate_export  # imports torch

    evaluation = evaluate_export(exported, split)
    if as_json:
        console.print_json(evaluation.as_json())
    else:
        print_evaluation(evaluation)


@app.command()
def predict(
    folder: ExportFolder,
    images: Annotated[list[Path], typer.Argument(help="Image files.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Say what images show, by exported weights."""
    from tune_mentormix.export.read import read_folder

    exported = read_folder(folder)
    from tune_mentormix.cli.tables import print_predictions
    from tune_mentormix.export.evaluate import predict_images  # imports torch

    predictions = predict_images(exported, images)
    if as_json:
        console.print_json([prediction.as_json() for prediction in predictions])
    else:
        print_predictions(predictions)


@app.command()
def report(
    name: Name,
    out: Annotated[
        Path | None,
        option("The HTML file to write.", REPORT_DEFAULT),
    ] = None,
    ablate: Annotated[bool, typer.Option("--ablate", help=ABLATE_HELP)] = False,
    address: ask.Address = None,
    storage: Storage = STORAGE,
    verbose: Verbose = False,
) -> None:
    """Write a search's findings, plots and figures to one HTML file; also while it runs."""
    experiment = read_experiment(storage, name)
    if ablate:
        from tune_mentormix.search.ablate import run_ablation  # imports torch and Ray

        with SearchProgress("ablation", "report --ablate") as progress:
            ablation = run_ablation(storage, name, progress, verbose, address)
        if ablation.ended == "interrupted":
            raise typer.Exit(INTERRUPTED)
    from tune_mentormix.report.page import write_report  # imports matplotlib and Optuna

    console.print_written(write_report(experiment, out or _default_report(experiment)))


@app.command()
def compare(
    names: Annotated[list[str], typer.Argument(metavar="NAME NAME…", help="Two or more.", show_default=False)],
    out: Annotated[Path | None, option("An HTML file to write, with curves.", "none")] = None,
    storage: Storage = STORAGE,
    as_json: AsJson = False,
) -> None:
    """Put searches side by side: settings that differ, best, cost, and whether they are comparable."""
    if len(set(names)) < len(names) or len(names) < 2:
        raise RequestError(f"compare takes two or more different names, got {' '.join(names)}")
    from tune_mentormix.cli.tables import print_comparison
    from tune_mentormix.results.comparison import compare as compare_searches

    comparison = compare_searches([read_experiment(storage, name) for name in names])
    if as_json:
        console.print_json(comparison.as_json())
    else:
        print_comparison(comparison)
    if out:
        from tune_mentormix.report.comparison_page import write_comparison  # imports matplotlib and Optuna

        written = write_comparison(comparison, out)
        if not as_json:
            console.print_written(written)


def _default_report(experiment: Experiment) -> Path:
    """In the experiment's folder, where that can be opened in a browser."""
    path = experiment.path
    return path / "report.html" if isinstance(path, Path) else Path(f"{experiment.name}-report.html")
