"""Makes files of an experiment on its cluster: weights of all images, the suspicious labels, a page to verify.

The work is one Ray task with the resources of a trial, on a node that has the data; a refit trains there. What it
makes goes into the experiment's folder `made`, where commands, pages and people find it.
"""

from __future__ import annotations

import math
import shutil
import socket
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
from ray.exceptions import RayError

from trainables.errors import one_line
from trainables.plugins import with_plugins
from tune_mentormix.cluster.autoscaling import wait_for_room
from tune_mentormix.cluster.connection import connection
from tune_mentormix.cluster.preflight import check_cluster
from tune_mentormix.cluster.resources import trial_resources
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError, SearchFailedError
from tune_mentormix.experiment.create import retraining_settings
from tune_mentormix.experiment.experiment import read_experiment
from tune_mentormix.formatting import format_duration
from tune_mentormix.results.made_files import FILES, MadeFiles, MadeKind, made_folder, read_made, write_made
from tune_mentormix.storage.paths import Location, write_atomically

POLL_SECONDS = 1.0
NOTE_SECONDS = 2.0  # between two notes of how far it is
VERIFY_IMAGES = 100
Task = Any  # what Ray returns for one that was sent
Say = Callable[[str], object]  # gets how far it is


def make_on_cluster(storage: Location, name: str, kind: MadeKind, changes: dict[str, Any], say: Say) -> MadeFiles:
    """Makes files of an experiment on a node of its cluster, and returns the finished record.

    `changes` are resources and `address`; `say` is called whenever it has come further. Raises RequestError if
    there is nothing to make them from, or no node has room; SearchFailedError if the making fails.
    """
    experiment = read_experiment(storage, name)
    settings = retraining_settings(experiment, changes | {"storage": storage})
    if kind != "refit":
        settings = settings.model_copy(update={"gpus_per_trial": 0.0, "device": "cpu"})
    begun = MadeFiles(kind=kind, state="running", began=time.time())
    write_made(storage, name, begun)
    try:
        with connection(settings, verbose=False):
            wait_for_room(settings.model_copy(update={"num_samples": 1}))
            check_cluster(settings)
            _await(_task(settings, storage, name, begun), settings, name, kind, say)
    except BaseException as error:
        is_failure = isinstance(error, RequestError | SearchFailedError)
        state, note = ("failed", str(error)) if is_failure else ("interrupted", "")
        write_made(storage, name, begun.model_copy(update={"state": state, "note": note, "ended": time.time()}))
        raise
    finished = read_made(storage, name, kind)
    assert finished is not None
    return finished


def _task(settings: SearchSettings, storage: Location, name: str, begun: MadeFiles) -> Task:
    resources = trial_resources(settings)
    work = ray.remote(num_cpus=resources["CPU"], num_gpus=resources.get("GPU", 0.0), max_retries=0)(
        with_plugins(make_here, settings.plugins())
    )
    reference: Task = work.remote(storage, name, begun)
    return reference


def _await(task: Task, settings: SearchSettings, name: str, kind: MadeKind, say: Say) -> None:
    """Waits for the task, and says how far it is; an interruption, or the end of the time budget, cancels it."""
    said = ""
    deadline = time.monotonic() + (settings.time_budget or math.inf)
    try:
        while not ray.wait([task], timeout=POLL_SECONDS)[0]:
            if time.monotonic() > deadline:
                ray.cancel(task, force=True)
                patience = format_duration(settings.time_budget or 0)
                raise SearchFailedError(f"the {kind} of {name} was not made within {patience} (time_budget)")
            made = read_made(settings.storage, name, kind)
            if made and made.note != said:
                said = made.note
                say(said)
        ray.get(task)
    except RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, RequestError):
            raise RequestError(str(cause)) from error
        raise SearchFailedError(f"the {kind} of {name} failed: {one_line(cause or error)}") from error
    except KeyboardInterrupt:
        ray.cancel(task, force=True)
        raise


def make_here(storage: Location, name: str, begun: MadeFiles) -> None:
    """Makes the files in this process and stores them, with notes of how far it is."""
    begun = begun.model_copy(update={"node": socket.gethostname()})
    write_made(storage, name, begun)
    target = made_folder(storage, name)
    with TemporaryDirectory(prefix="tune-mentormix-") as folder:
        # In the storage itself, an interrupted refit continues, and answers in an earlier verify.csv are not lost.
        work = target if isinstance(target, Path) else Path(folder)
        _MAKERS[begun.kind](storage, name, work, _notes(storage, name, begun))
        for file in FILES[begun.kind]:
            if work != target:
                write_atomically(target / file, (work / file).read_bytes())
    write_made(storage, name, begun.model_copy(update={"state": "finished", "ended": time.time()}))


def _notes(storage: Location, name: str, begun: MadeFiles) -> Say:
    last = 0.0

    def note(text: str) -> None:
        nonlocal last
        if time.monotonic() - last > NOTE_SECONDS:
            last = time.monotonic()
            write_made(storage, name, begun.model_copy(update={"note": text}))

    return note


def _make_refit(storage: Location, name: str, folder: Path, note: Say) -> None:
    from tune_mentormix.export.write import export_best  # imports torch

    def show(report: dict[str, float], epochs: int) -> None:
        note(f"epoch {report['epoch']:.0f} of {epochs}, training loss {report['train_loss']:.4f}")

    export_best(read_experiment(storage, name), folder / "refit", refit=show)
    with tarfile.open(folder / "refit.tar.new", "w") as archive:  # uncompressed: weights do not compress
        archive.add(folder / "refit", arcname=name)
    (folder / "refit.tar.new").replace(folder / "refit.tar")
    shutil.rmtree(folder / "refit")


def _make_labels(storage: Location, name: str, folder: Path, note: Say) -> None:
    from tune_mentormix.export.predictions import suspicious_labels  # imports torch
    from tune_mentormix.export.read import read_search_or_export
    from tune_mentormix.report.suspicious_labels import write_labels_page

    note("reading the networks' probabilities")
    table = suspicious_labels(read_search_or_export(storage, name, {}, ()), {})
    table.write_csv(folder / "labels.csv")
    write_labels_page(table, name, folder / "labels.html", folder / "labels.csv")


def _make_verify(storage: Location, name: str, folder: Path, note: Say) -> None:
    from tune_mentormix.report.verify_page import write_verify_files  # imports NumPy and the data

    note("choosing the images")
    command = f"tune-mentormix verify {name} --labels verify.csv"
    write_verify_files(read_experiment(storage, name), folder, VERIFY_IMAGES, command)


_MAKERS: dict[MadeKind, Callable[[Location, str, Path, Say], None]] = {
    "refit": _make_refit,
    "labels": _make_labels,
    "verify": _make_verify,
}
