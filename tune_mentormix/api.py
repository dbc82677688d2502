"""The Python package: `search`, `resume` and `open` return an experiment, `load` an exported model.

The functions take what the commands take, and do the same. They return values and raise exceptions: none prints, and
none ends the process. `tune_mentormix` has them under their own names; torch and Ray are imported when needed.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainables.errors import PluginError
from trainables.plugins import plugin_name
from tune_mentormix.config.settings import RESUMABLE, STORAGE
from tune_mentormix.config.settings_file import read_settings
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.experiment.schemas import BestTrial, SearchStatus
from tune_mentormix.output import notebook_display
from tune_mentormix.results.progress import ProgressTable
from tune_mentormix.results.summary import check_search, search_status, state_in_words
from tune_mentormix.results.trial_table import TrialTable, data_frame
from tune_mentormix.storage.lease import Lease
from tune_mentormix.storage.paths import Location, RemotePath, as_location

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from trainables.inference import Classifier
    from trainables.settings import DeviceName
    from tune_mentormix.export.write import Exported
    from tune_mentormix.results.suspicious_labels import LabelTable

AnyPath = str | PathLike[str]
Storage = AnyPath | RemotePath
PlugIn = str | type | Callable[..., Any]
OnProgress = Callable[[SearchStatus], object]
REFRESH_SECONDS = 1.0  # between two updates of what a notebook shows, and two calls of `on_progress`
_OPTIONS = re.compile(r" \(--[^()]*\)")  # the options of the command line that a message names


def search(
    name: str | None = None,
    *,
    storage: Storage = STORAGE,
    dataset: str | Callable[..., Any] | Sequence[Any] | Mapping[str, Any] = "digits",
    epochs: int | None = None,
    trials: int | None = None,
    on_progress: OnProgress | None = None,
    verbose: bool = False,
    **settings: Any,
) -> ExperimentHandle:
    """Searches for the best MentorMix settings, as the command `search` does, and returns the experiment.

    In a notebook, a table shows the progress. Interrupting the cell, or Ctrl-C, ends the search cleanly; `resume`
    continues it. A search in another thread than the main one cannot be interrupted.

    Args:
        name: of the experiment; None: the dataset and the time.
        storage: where experiments are kept, a folder or a URI such as `s3://bucket/folder`.
        dataset: the name of a dataset, a function (docs/plug-ins.md), or arrays: `(images, labels)`, or a mapping of
            the arrays that [the dataset `arrays`](data.md) has. Images are [N, H, W], [N, H, W, C] or [N, C, H, W],
            uint8 or floats in [0, 1]; labels [N] are integers from 0. They are written to a file in the storage.
        epochs: of a trial that is not stopped early; None: 40 for dataset `digits`, otherwise 60.
        trials: how many, including the controls; None: 40 for dataset `digits`, otherwise 20.
        on_progress: called at most once a second with the status of the search.
        verbose: whether Ray's log is shown.
        **settings: every other setting of a search or of its trials, such as `data_dir`, `space` or `batch_size`;
            docs/search.md and docs/method.md list them. `start_from` takes an experiment, too. Where a plug-in can be
            named, a class or a function will do (docs/plug-ins.md).

    Raises:
        RequestError: if a setting is wrong or the name is taken; nothing was created.
        SearchFailedError: if every trial failed, or the storage did for long.
        KeyboardInterrupt: if the search was interrupted; everything reported is stored.
    """
    from tune_mentormix.search.plan import new_request  # imports Optuna

    if trials is not None and "num_samples" in settings:
        raise RequestError("trials and num_samples are two names of one setting: give one of them")
    start_from = settings.get("start_from")
    if isinstance(start_from, ExperimentHandle):
        settings["start_from"] = start_from.path
    settings = _plugin_names(settings)
    if callable(dataset):
        dataset = str(_plugin_names(dataset))
    given = {"name": name, "storage": _location(storage), "epochs": epochs, "num_samples": trials}
    with _in_pythons_words(), _stored(storage, dataset, settings) as of_dataset:
        values = settings | {key: value for key, value in given.items() if value is not None} | of_dataset
        request = new_request(read_settings(None, values))
        from tune_mentormix.search.run import start_search  # imports torch and Ray

        with _progress_of("search", on_progress) as progress:
            experiment = start_search(request, progress, verbose)
    return _ended(experiment)


def resume(
    name: str,
    *,
    storage: Storage = STORAGE,
    trials: int | None = None,
    on_progress: OnProgress | None = None,
    verbose: bool = False,
    plug_ins: Sequence[PlugIn] = (),
    **changes: Any,
) -> ExperimentHandle:
    """Resumes an interrupted search, or extends a finished one, as the command `resume` does.

    Args:
        name: of the experiment.
        storage: where it is.
        trials: how many in all, more than before; None: as before.
        on_progress: as in `search`.
        verbose: whether Ray's log is shown.
        plug_ins: classes and functions that `search` was given, if this is another process.
        **changes: budgets, resources and `address`, where they differ from what they were.

    Raises:
        RequestError: if there is no such experiment, it runs, its data changed, or a setting may not change.
        SearchFailedError: as in `search`.
        KeyboardInterrupt: as in `search`.
    """
    allowed = ("trials", "address", *RESUMABLE)
    if wrong := sorted(changes.keys() - allowed):
        raise RequestError(f"{wrong[0]} cannot change in a resume; these may: {', '.join(allowed)}")
    _plugin_names(plug_ins)
    if trials is not None:
        changes["num_samples"] = trials
    with _in_pythons_words():
        location = _location(storage)
        Lease(read_experiment(location, name).path).check_free()  # told at once, before torch and Ray are imported
        from tune_mentormix.search.run import resume_search  # imports torch and Ray

        with _progress_of("search", on_progress) as progress:
            experiment = resume_search(location, name, changes, progress, verbose)
    return _ended(experiment)


def open(name: str, *, storage: Storage = STORAGE, plug_ins: Sequence[PlugIn] = ()) -> ExperimentHandle:
    """Opens an experiment, also while it runs. Raises RequestError if there is none.

    `plug_ins` are classes and functions that `search` was given, for what trains or evaluates in another process.
    """
    _plugin_names(plug_ins)
    with _in_pythons_words():
        return ExperimentHandle(read_experiment(_location(storage), name))


def load(folder: AnyPath, *, device: DeviceName = "auto", plug_ins: Sequence[PlugIn] = ()) -> Model:
    """Loads the model that `export`, or the command of that name, wrote into a folder.

    `device` is where it runs: `auto`, `cpu`, `cuda` or `mps`. `plug_ins` are those whose code may run, by name, or
    the classes and functions themselves: a network of one's own is not in the folder. Raises RequestError if a file
    is missing or was changed, if there are no weights or no such device, or if a plug-in is missing or another one.
    """
    from tune_mentormix.export.evaluate import load_exported_classifier  # imports torch
    from tune_mentormix.export.read import read_folder

    with _in_pythons_words():
        exported = read_folder(Path(folder), None, _plugin_names(plug_ins), ("network",))
        return Model(load_exported_classifier(exported, device))


class ExperimentHandle:
    """An experiment in a storage; `search`, `resume` and `open` return it.

    Each method reads the experiment as it is now, so that it also tells of a search that another process runs.
    """

    def __init__(self, experiment: Experiment) -> None:
        """Remembers where the experiment is."""
        path = experiment.path.absolute()  # the handle outlives a change of the current folder
        self._storage, self._name = path.parent, experiment.name

    @property
    def name(self) -> str:
        """The experiment's name, which is that of its folder."""
        return self._name

    @property
    def path(self) -> Location:
        """The experiment's folder: a `pathlib.Path`, or the place in an object store."""
        return self._storage / self._name

    def __repr__(self) -> str:
        experiment = self._read()
        best = experiment.best()
        accuracy = f", best {best.val_accuracy:.4f} on {experiment.labels_kind} validation labels" if best else ""
        return f"<Experiment {self.name!r}: {state_in_words(experiment)}{accuracy}>"

    def status(self) -> SearchStatus:
        """Returns the state, the counts of trials, the best, the controls and the verdict, as `status --json`."""
        return search_status(self._read())

    @property
    def best(self) -> BestTrial | None:
        """The best trial by its validation accuracy; None before any trial reported one."""
        return self.status().best

    def trials(self) -> pd.DataFrame:
        """Returns all trials, one a row: state, accuracy at the latest epoch, hyperparameters. Needs pandas."""
        table = TrialTable(self._read())
        return data_frame(table.columns, table.cells())

    def confirm(
        self,
        top_k: int | None = None,
        seeds: int | None = None,
        *,
        ablate: bool = False,
        on_progress: OnProgress | None = None,
        verbose: bool = False,
        **resources: Any,
    ) -> dict[str, Any]:
        """Trains the best and the controls on fresh seeds, then measures them on the test set.

        An interrupted confirmation continues when this is called again.

        Args:
            top_k: how many of the best configurations to train; None: 5, or as before.
            seeds: how many, the same for all; None: 5, or as before.
            ablate: whether to train the winner with one hyperparameter at a time set back to its published value.
            on_progress: called at most once a second with the status of the confirmation's runs.
            verbose: whether Ray's log is shown.
            **resources: `time_budget`, `cpus_per_trial`, `gpus_per_trial`, `max_concurrent` and `address`.

        Returns:
            What `confirm --json` prints: the winner, the candidates with their accuracies, and the verdicts.

        Raises:
            RequestError: if no trial ran to its end, or a setting is wrong.
            SearchFailedError: if a run of every candidate failed.
            KeyboardInterrupt: if it was interrupted.
        """
        with _in_pythons_words():
            Lease(self._read().path).check_free()  # told at once, before torch and Ray are imported
            from tune_mentormix.results.confirmation_summary import check_confirmation, confirmation_record
            from tune_mentormix.search.confirm import confirm_search  # imports torch and Ray

            with _progress_of("confirm", on_progress) as progress:
                confirmation = confirm_search(
                    self._storage,
                    self.name,
                    top_k,
                    seeds,
                    resources,
                    lambda confirmation: progress(confirmation.runs),
                    verbose,
                    ablate,
                )
        check_confirmation(confirmation)
        if confirmation.runs.ended == "interrupted":
            raise KeyboardInterrupt(f"the confirmation of {self.name} was interrupted: confirm() continues it")
        return {"name": self.name, **confirmation_record(confirmation)}

    def export(
        self,
        folder: AnyPath,
        *,
        onnx: bool = False,
        weights: Literal["last", "best"] = "last",
        method: Literal["best", "mentormix"] = "best",
        refit: bool = False,
    ) -> Exported:
        """Writes the best configuration to a folder, with its weights and their provenance; `load` reads it.

        Args:
            folder: to write into; an earlier export there is replaced.
            onnx: whether to write an ONNX file too.
            weights: of the last epoch, by which the trial was chosen, or of its epoch of best validation accuracy.
            method: the best of all that was trained, or the best that uses MentorMix.
            refit: whether to train the configuration on all images first, and export these weights.

        Raises:
            RequestError: if there is no result yet, or the folder cannot be written or holds other files.
        """
        if refit and weights == "best":
            raise RequestError("refit trains without validation images, so no epoch is the best: leave out weights")
        from tune_mentormix.export.write import export_best  # imports torch

        with _in_pythons_words():
            shown = (lambda report, epochs: None) if refit else None
            return export_best(self._read(), Path(folder), onnx, weights, method == "mentormix", shown)

    def labels(self, *, data_dir: AnyPath | None = None, labels_file: AnyPath | None = None) -> LabelTable:
        """Ranks all training images by how likely their label is wrong; `frame()` of the table is a data frame.

        `data_dir` and `labels_file` tell where these are, if they have moved. Raises RequestError if no trial ran to
        its end, or the data changed.
        """
        from tune_mentormix.export.predictions import suspicious_labels  # imports torch

        moved = {"data_dir": data_dir, "labels_file": labels_file}
        with _in_pythons_words():
            return suspicious_labels(self._read(), {k: None if p is None else Path(p) for k, p in moved.items()})

    def report(self, out: AnyPath | None = None) -> Path:
        """Writes the summary, tables and plots to one HTML file, and returns its path.

        None: `report.html` in the experiment's folder; in the current one if the experiment is in an object store.
        """
        from tune_mentormix.report.page import default_report_path, write_report  # imports matplotlib and Optuna

        with _in_pythons_words():
            experiment = self._read()
            return write_report(experiment, default_report_path(experiment) if out is None else Path(out))

    def _read(self) -> Experiment:
        return read_experiment(self._storage, self.name)


class Model:
    """A trained network from an exported folder, with the preprocessing of its training."""

    def __init__(self, classifier: Classifier) -> None:
        """`load` makes it."""
        self._classifier = classifier

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of `probabilities`."""
        return self._classifier.description.class_names

    def predict(self, images: Any) -> NDArray[np.str_]:
        """Returns the name of the most probable class of each image: [N]; `images` as in `probabilities`."""
        import numpy as np

        names: NDArray[np.str_] = np.asarray(self.class_names)[self.probabilities(images).argmax(axis=1)]
        return names

    def probabilities(self, images: Any) -> NDArray[np.float32]:
        """Returns the probability of each class for each image: [N, K].

        `images` is an array of images of the size that the network was trained on, in the forms that `search` takes;
        or the path of an image file or a folder, or a list of such paths, whose images are resized.
        """
        from tune_mentormix.export.evaluate import classify_arrays, classify_files, image_files

        with _in_pythons_words():
            paths = [images] if isinstance(images, str | PathLike) else images
            if isinstance(paths, list) and all(isinstance(path, str | PathLike) for path in paths):
                return classify_files(self._classifier, image_files([Path(path) for path in paths]))
            return classify_arrays(self._classifier, images)


def _plugin_names(values: Any) -> Any:
    """Returns settings with the name of each class and function in its place. Raises RequestError as a plug-in."""
    if isinstance(values, Mapping):
        return {key: _plugin_names(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_plugin_names(value) for value in values]
    if not callable(values):
        return values
    try:
        return plugin_name(values)
    except PluginError as error:
        raise RequestError(str(error)) from error


def _location(storage: Storage) -> Location:
    try:
        return as_location(os.fspath(storage) if isinstance(storage, PathLike) else storage)
    except ValueError as error:
        raise RequestError(f"storage: {error}") from error


@contextmanager
def _stored(
    storage: Storage, dataset: str | Sequence[Any] | Mapping[str, Any], settings: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yields the settings of a dataset; arrays are in a file then, which is removed again if no search begins."""
    if isinstance(dataset, str):
        yield {"dataset": dataset}
        return
    if settings.get("data_dir") is not None:
        raise RequestError("data_dir is where a named dataset is: leave it out, or give the dataset's name")
    place = _location(storage)
    if not isinstance(place, Path):
        raise RequestError(
            "dataset cannot be arrays in memory where the storage is an object store: write them with numpy.savez, "
            "and give dataset='arrays' and the file as data_dir"
        )
    if not isinstance(dataset, Mapping):
        if len(dataset) != 2:
            raise RequestError("dataset must be the name of one, (images, labels), or a mapping of arrays")
        dataset = dict(zip(("images", "labels"), dataset, strict=True))
    from tune_mentormix.storage.arrays import store_arrays  # imports NumPy

    existed = place.exists()
    path, is_new = store_arrays(place, dataset)
    try:
        yield {"dataset": "arrays", "data_dir": path}
    except RequestError:
        if is_new:
            path.unlink(missing_ok=True)
            for folder in (path.parent, *([] if existed else [place])):
                if not any(folder.iterdir()):
                    folder.rmdir()
        raise


@contextmanager
def _progress_of(title: str, on_progress: OnProgress | None) -> Iterator[Callable[[Experiment], None]]:
    """Yields what is called with the experiment while it runs; it shows the progress where a notebook can show it."""
    table, display = ProgressTable(title), notebook_display()
    shown = 0.0

    def show(experiment: Experiment) -> None:
        nonlocal shown
        if time.monotonic() - shown < REFRESH_SECONDS:
            return
        shown = time.monotonic()
        if display:
            display(table.table(experiment))
        if on_progress:
            on_progress(search_status(experiment))

    yield show


def _ended(experiment: Experiment) -> ExperimentHandle:
    """Returns a search that ended by itself. Raises KeyboardInterrupt or SearchFailedError otherwise."""
    if experiment.ended == "interrupted":
        raise KeyboardInterrupt(f"{experiment.name} was interrupted: tune_mentormix.resume continues it")
    check_search(experiment)
    return ExperimentHandle(experiment)


@contextmanager
def _in_pythons_words() -> Iterator[None]:
    """Leaves the options of the command line out of the messages of errors."""
    try:
        yield
    except RequestError as error:
        error.args = (_OPTIONS.sub("", str(error)),)
        raise
