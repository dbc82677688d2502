"""What several tests share: one small Ray a session, and searches small enough to run in seconds."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
# Of the object store that some tests start; Ray's workers have the environment in which Ray was started.
os.environ |= {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "none", "AWS_REGION": "us-east-1"}
os.environ |= {"AWS_EC2_METADATA_DISABLED": "true", "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
os.environ["STORAGE_PATIENCE_SECONDS"] = "10"

import pytest
import ray

from tests.support.object_store import ObjectStore
from tests.support.searches import SEEDS, SMALL, TOP_K, SearchRunner, copy_of, quiet
from tests.support.stand_in_head import StandInHead, stand_in_head
from tune_mentormix.cluster.connection import start_ray
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.config.settings_file import read_settings
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.search.confirm import confirm_search
from tune_mentormix.search.run import start_search


@pytest.fixture
def hangup_ends() -> Iterator[None]:
    """Has SIGHUP end processes, as in a terminal: under `nohup` it is ignored, also by what the tests start."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """An S3-compatible server on the loopback interface."""
    store = ObjectStore()
    yield store
    store.stop()


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    start_ray(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100_000_000,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def small_settings() -> Callable[..., SearchSettings]:
    def make(storage: Path, **options: object) -> SearchSettings:
        return read_settings(None, {**SMALL, "storage": str(storage), **options})

    return make


@pytest.fixture(scope="session")
def run_search(ray_session: None, small_settings: Callable[..., SearchSettings]) -> SearchRunner:
    def run(storage: Path, **options: object) -> Experiment:
        return start_search(small_settings(storage, **options), quiet)

    return run


@pytest.fixture(scope="session")
def finished_search(run_search: SearchRunner, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A search of five trials that ran to its end; tests only read it."""
    return run_search(tmp_path_factory.mktemp("finished"), name="done")


@pytest.fixture(scope="session")
def confirmed(finished_search: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A search that was confirmed; tests only read it."""
    storage = copy_of(finished_search, tmp_path_factory.mktemp("confirmed"))
    confirm_search(storage, "done", TOP_K, SEEDS, {}, quiet)
    return read_experiment(storage, "done")


@pytest.fixture
def head() -> Iterator[StandInHead]:
    """What answers as the head of a Ray cluster does."""
    with stand_in_head() as head:
        yield head
