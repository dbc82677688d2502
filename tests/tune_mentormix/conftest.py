"""What several tests share: one search that was confirmed, and a head that runs nothing."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import folder_of
from tests.tune_mentormix.stand_in_head import StandInHead, stand_in_head
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.results.confirmation import Confirmation, read_confirmation
from tune_mentormix.search.confirm import confirm_search

TOP_K, SEEDS = 1, 2


def quiet(_confirmation: Confirmation) -> None:
    """Shows no progress."""


def copy_of(experiment: Experiment, storage: Path) -> Path:
    """The same experiment in a storage folder of its own, which is returned."""
    shutil.copytree(folder_of(experiment), storage / experiment.name)
    return storage


def confirmation_of(experiment: Experiment) -> Confirmation:
    confirmation = read_confirmation(experiment)
    assert confirmation is not None
    return confirmation


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
