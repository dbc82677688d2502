"""Making an experiment's folder: by one driver only, and with nothing left behind where that fails."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from trainables.datasets import Dataset
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment import SEARCH_FILE, Experiment
from tune_mentormix.provenance import LABEL_NOISE_FILE, write_label_noise
from tune_mentormix.storage.lease import hold_lease
from tune_mentormix.storage.paths import RemotePath
from tune_mentormix.storage.yaml_files import write_yaml


@contextmanager
def hold_new_experiment(experiment: Experiment, dataset: Dataset) -> Iterator[None]:
    """Makes the experiment's folder with its first files, and holds its lease while the block runs.

    Args:
        experiment: that has no folder yet, with its settings.
        dataset: whose label noise is recorded.

    Raises:
        RequestError: if the name is taken, by a driver that began at the same moment, too, or the storage cannot be
            written.
    """
    path = experiment.path
    with ExitStack() as held:
        try:
            path.mkdir(parents=True)
            try:
                held.enter_context(hold_lease(path))
                _write_first_files(experiment, dataset)
            except (OSError, RequestError):
                held.close()
                if not isinstance(path, RemotePath):  # there, the folder can be another driver's
                    shutil.rmtree(path, ignore_errors=True)
                raise
        except FileExistsError as error:
            raise RequestError(f"{path} exists already; choose another --name") from error
        except OSError as error:
            raise RequestError(f"storage {path.parent} cannot be written: {error.strerror} (--storage)") from error
        yield


def _write_first_files(experiment: Experiment, dataset: Dataset) -> None:
    """Under the lease; with `search.yaml`, the last of them, the experiment is there."""
    settings = experiment.path / SEARCH_FILE
    if settings.is_file():  # an object store makes the same folder for two drivers
        raise FileExistsError(str(settings))
    try:
        write_label_noise(experiment.path / LABEL_NOISE_FILE, dataset)
        write_yaml(settings, experiment.settings)
    except OSError:
        with suppress(OSError):
            (experiment.path / LABEL_NOISE_FILE).unlink(missing_ok=True)
        raise
