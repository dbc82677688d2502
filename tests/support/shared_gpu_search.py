"""A search of trials that share a pretended GPU, one of which is cut off from more memory in its first epoch.

A separate program, because the pretended GPU needs a Ray of its own.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import psutil
import ray

from tests.support.worker_processes import worker_processes
from tune_mentormix.config.settings_file import read_settings
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.search.run import start_search

HEADROOM = 24 * 2**20  # bytes, of address space: enough for whatever is not a batch
UNLIMITED = (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY)
IMAGES, SIDE = 800, 32


class MemoryTaken:
    """Called at every turn of the search; lets the first worker that trains have no more memory than it has.

    Later would be too late: torch keeps what it had once, and may need no more. Once a trial failed the worker has
    what it wants again, since it may get the other trial next.
    """

    def __init__(self) -> None:
        self._limit = sys.maxsize
        self._victim: psutil.Process | None = None

    def __call__(self, experiment: Experiment) -> None:
        trials = experiment.trials.values()
        if any(trial.state == "failed" for trial in trials):
            if self._victim and self._victim.is_running():
                self._victim.rlimit(psutil.RLIMIT_AS, UNLIMITED)
        elif len(trials) == 2:
            self._victim = self._victim or next(iter(worker_processes("Trainable.train")), None)
            if self._victim:
                self._limit = min(self._limit, self._victim.memory_info().vms + HEADROOM)
                self._victim.rlimit(psutil.RLIMIT_AS, (self._limit, psutil.RLIM_INFINITY))


def main(folder: Path) -> None:
    """Searches in `folder`."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
    np.savez(folder / "images.npz", images=images, labels=rng.integers(0, 4, IMAGES))
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=1,
        include_dashboard=False,
        object_store_memory=100_000_000,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    place = {"name": "shared", "storage": str(folder / "storage")}
    data = {"dataset": "arrays", "data_dir": str(folder / "images.npz")}
    small = {"num_samples": 2, "epochs": 4, "scheduler": "none", "gpus_per_trial": 0.5, "trial": {"batch_size": 640}}
    start_search(read_settings(None, place | data | small), MemoryTaken())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
