"""One quiet Ray on this machine, for the benchmarks that need a real one."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import ray


@contextmanager
def local_ray(cpus: int) -> Iterator[None]:
    """Starts Ray with so many CPUs for as long as the block runs, each worker with one PyTorch thread."""
    os.environ["OMP_NUM_THREADS"] = "1"
    warnings.filterwarnings("ignore", module=r"ray\..*")
    for name in ("ray", "ray.tune", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        object_store_memory=100_000_000,
        log_to_driver=False,
        logging_level=logging.CRITICAL,
    )
    try:
        yield
    finally:
        ray.shutdown()
