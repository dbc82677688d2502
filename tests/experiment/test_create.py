"""Two drivers that make one experiment: the second is refused, and takes nothing from the first."""

from pathlib import Path

import pytest

from tests.support.object_store import ObjectStore
from trainables.data import Dataset, load_dataset
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.create import hold_new_experiment
from tune_mentormix.experiment.experiment import SEARCH_FILE, Experiment
from tune_mentormix.experiment.provenance import LABEL_NOISE_FILE
from tune_mentormix.storage.lease import LEASE_FILE
from tune_mentormix.storage.paths import RemotePath


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset(SearchSettings().data_settings())


@pytest.fixture
def remote(object_store: ObjectStore, request: pytest.FixtureRequest) -> RemotePath:
    return RemotePath(object_store.uri(f"new/{request.node.name}")) / "birds"


def names_in(path: RemotePath) -> set[str]:
    return {file.name for file in path.iterdir()}


def test_a_driver_that_lost_the_race_leaves_the_winners_files(remote: RemotePath, digits: Dataset) -> None:
    first, second = Experiment(remote, SearchSettings(seed=1)), Experiment(remote, SearchSettings(seed=2))
    with hold_new_experiment(first, digits):
        with pytest.raises(RequestError, match="is running already"), hold_new_experiment(second, digits):
            pass
        assert names_in(remote) == {SEARCH_FILE, LABEL_NOISE_FILE, LEASE_FILE}
    assert "seed: 1" in (remote / SEARCH_FILE).read_text()


def test_a_driver_that_comes_when_the_winner_is_done_does_not_take_its_place(
    remote: RemotePath, digits: Dataset
) -> None:
    with hold_new_experiment(Experiment(remote, SearchSettings(seed=1)), digits):
        pass
    second = hold_new_experiment(Experiment(remote, SearchSettings(seed=2)), digits)
    with pytest.raises(RequestError, match="exists already"), second:
        pass
    assert names_in(remote) == {SEARCH_FILE, LABEL_NOISE_FILE}
    assert "seed: 1" in (remote / SEARCH_FILE).read_text()


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path, digits: Dataset) -> None:
    (tmp_path / "birds").mkdir()
    (tmp_path / "birds" / "mine").touch()
    made = hold_new_experiment(Experiment(tmp_path / "birds", SearchSettings()), digits)
    with pytest.raises(RequestError, match="exists already"), made:
        pass
    assert [file.name for file in (tmp_path / "birds").iterdir()] == ["mine"]
