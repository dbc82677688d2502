"""The command that lets a person verify a few labels: verify."""

from __future__ import annotations

import getpass
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tune_mentormix.cli import console
from tune_mentormix.cli.options import AsJson, Commands, Dashboard, Insecure, Name, Storage, option, path_option
from tune_mentormix.config.settings import STORAGE, with_storage
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.experiment.plugins import allow_plugins_of
from tune_mentormix.formatting import NOTHING, format_accuracy
from tune_mentormix.results.verification_summary import (
    Verification,
    about_verification,
    is_outdated,
    read_verification,
    verification_record,
)

if TYPE_CHECKING:
    from tune_mentormix.report.verify_page import VerifyFiles  # imports NumPy

OUT_HELP = (
    "Folder for verify.csv and verify.html. Not set: the experiment's folder; NAME-verify for a remote one. With "
    "--labels: nothing is written."
)
LABELS_HELP = "Read the answers of this verify.csv, and keep them in the experiment."
IMAGES_HELP = "How many images to verify, those answered before included."
BY_HELP = "Who answered."
app = Commands("Results")


@app.with_examples("verify birds", "verify birds --labels verify.csv", "verify birds --out more --images 200")
def verify(
    name: Name,
    out: Annotated[Path | None, path_option(OUT_HELP)] = None,
    images: Annotated[int, typer.Option(help=IMAGES_HELP, min=1, max=1000)] = 100,
    labels: Annotated[Path | None, path_option(LABELS_HELP)] = None,
    by: Annotated[str | None, option(BY_HELP, "the user's name")] = None,
    submit: Annotated[bool, typer.Option("--submit", help="Pick them as a job of a Ray cluster.")] = False,
    storage: Storage = STORAGE,
    dashboard: Dashboard = None,
    insecure: Insecure = False,
    as_json: AsJson = False,
) -> None:
    """Pick the few images whose right label tells which configuration is best, and read what a person answers.

    Without --labels, writes verify.csv and a page to answer by key or click. With it, reads the answers; status,
    report and export then rest on them.
    """
    if submit:
        from tune_mentormix.cli.jobs import submit_making

        submit_making(name, "verify", {"--out": out, "--labels": labels, "--by": by}, storage, dashboard, insecure)
        return
    experiment = read_experiment(storage, name)
    if experiment.metric != "val_accuracy":
        raise RequestError(
            f"verify estimates accuracies, and {name} maximises {experiment.settings.metric}: "
            f"{with_storage(f'confirm {name}', storage)} compares its best by that"
        )
    added = None if labels is None else _read_labels(experiment, labels, by or _user())
    files = None
    if labels is None or out is not None:
        files = _write_files(experiment, out, images)
    verification = read_verification(experiment)
    if as_json:
        record = verification_record(experiment, verification)
        console.print_json(record | {"added": added, "files": files and [str(files.csv), str(files.page)]})
        return
    if added is not None:
        console.stdout.print(
            f"{added} new answers were read from {labels}" if added else f"{labels} has no new answer"
        )
    if files:
        _print_files(experiment, files)
    if verification and verification.answers:
        _print_verification(experiment, verification)


def _user() -> str:
    """Returns the name of the user; in some containers there is none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _read_labels(experiment: Experiment, labels: Path, by: str) -> int:
    """Reads a verify.csv, and returns how many of its answers are new."""
    from tune_mentormix.results.verification_pool import newest_pool  # imports NumPy
    from tune_mentormix.results.verified_labels import check_answers, read_verify_csv, record_answers

    rows = read_verify_csv(labels)
    pool = newest_pool(experiment.path)
    if pool is None:
        verify = with_storage(f"verify {experiment.name}", experiment.path.parent)
        raise RequestError(f"nothing was asked about {experiment.name} yet: first {verify}")
    given = {image: pool.given(position) for position, image in enumerate(pool.images)}
    try:
        answers = check_answers(rows, given, pool.class_names)
    except RequestError as error:
        raise RequestError(f"{labels}: {error} (--labels)") from error
    return record_answers(experiment.path, answers, by)


def _write_files(experiment: Experiment, out: Path | None, images: int) -> VerifyFiles:
    from tune_mentormix.report.verify_page import write_verify_files  # imports NumPy and the data

    folder = out or (experiment.path if isinstance(experiment.path, Path) else Path(f"{experiment.name}-verify"))
    allow_plugins_of(experiment)
    command = console.command_line(f"verify {experiment.name} --labels verify.csv", experiment.path.parent)
    return write_verify_files(experiment, folder, images, command)


def _print_files(experiment: Experiment, files: VerifyFiles) -> None:
    answered = f", {files.answered} of them answered before" if files.answered else ""
    console.stdout.print(
        f"{files.images} images on which {files.candidates} candidates may differ{answered}: answer them in a browser"
    )
    console.print_written(files.page)
    console.print_written(files.csv)
    read = f"verify {experiment.name} --labels {shlex.quote(str(files.csv))}"
    console.print_commands({"then": read}, experiment.path.parent)


def _print_verification(experiment: Experiment, verification: Verification) -> None:
    """Prints every candidate, the chosen one first, and what the answers say."""
    noisy = verification.pool.evidence.noisy_accuracies
    rows = []
    for position in verification.ranking:
        estimate = verification.estimates[position]
        title = verification.pool.candidates[position].title
        rows.append([title, str(estimate or NOTHING), format_accuracy(float(noisy[position]))])
    console.stdout.print()
    console.print_table(("", "on right labels", "on noisy labels"), rows, bold=0)
    for sentence in about_verification(verification):
        console.stdout.print(sentence)
    if is_outdated(experiment, verification):
        verify = with_storage(f"verify {experiment.name}", experiment.path.parent)
        console.print_note(f"The search was confirmed since: {verify} takes in its candidates.")
