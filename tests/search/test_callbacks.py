from pathlib import Path

import pytest

from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.experiment.events import Checkpoint, Proposed
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.search.callbacks import CheckpointCleanup, trial_folder


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    experiment = Experiment(tmp_path, SearchSettings())
    for trial in (1, 10):
        experiment.apply(Proposed(trial=trial, config={}))
    return experiment


def write(experiment: Experiment, trial: int, epoch: int, path: str) -> None:
    assert isinstance(experiment.path, Path)
    (experiment.path / path).mkdir(parents=True, exist_ok=True)
    experiment.apply(Checkpoint(trial=trial, epoch=epoch, path=path))


def left(experiment: Experiment) -> list[str]:
    assert isinstance(experiment.path, Path)
    return sorted(folder.relative_to(experiment.path).as_posix() for folder in experiment.path.glob("runs/*/*/*"))


def test_the_newest_two_of_a_trial_stay_whichever_attempt_wrote_them(experiment: Experiment) -> None:
    cleanup = CheckpointCleanup(experiment)
    write(experiment, 10, 1, "runs/1/trial-0010/checkpoint_000000")
    for epoch, attempt in ((1, 1), (2, 1), (3, 2), (4, 2)):
        write(experiment, 1, epoch, f"runs/1/{trial_folder(1, attempt)}/checkpoint_{epoch:06d}")
        cleanup.delete_old(1)
    assert left(experiment) == [
        "runs/1/trial-0001-attempt-2/checkpoint_000003",
        "runs/1/trial-0001-attempt-2/checkpoint_000004",
        "runs/1/trial-0010/checkpoint_000000",
    ]


def test_a_checkpoint_that_cannot_be_deleted_is_left_alone(experiment: Experiment, tmp_path: Path) -> None:
    write(experiment, 1, 1, "runs/1/trial-0001/a")
    for epoch in (2, 3):
        write(experiment, 1, epoch, f"runs/1/trial-0001/{epoch}")
    (tmp_path / "runs/1/trial-0001/a").rmdir()
    (tmp_path / "runs/1/trial-0001/a").write_text("no folder")
    CheckpointCleanup(experiment).delete_old(1)
    assert len(left(experiment)) == 3
