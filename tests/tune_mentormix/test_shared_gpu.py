"""Trials that share a GPU, in a Ray that has a pretended one; a worker's memory really runs out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tune_mentormix.errors import WRONG_REQUEST
from tune_mentormix.experiment import Experiment, read_experiment
from tune_mentormix.journal import JOURNAL_FILE, Event, read_events

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """The storage, what the program printed, and its stderr."""
    folder = tmp_path_factory.mktemp("shared")
    ran = subprocess.run(
        [sys.executable, "-m", "tests.tune_mentormix.shared_gpu_search", str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    return folder / "storage", json.loads(ran.stdout.strip().splitlines()[-1]), ran.stderr


@pytest.fixture(scope="module")
def shared(ended: tuple[Path, dict[str, Any], str]) -> Experiment:
    return read_experiment(ended[0], "shared")


@pytest.fixture(scope="module")
def events(shared: Experiment) -> list[Event]:
    return list(read_events(shared.path / JOURNAL_FILE))


def test_a_gpu_that_torch_does_not_find_cannot_be_measured_and_nothing_is_created(
    ended: tuple[Path, dict[str, Any], str],
) -> None:
    _, printed, stderr = ended
    assert printed == {"refused": WRONG_REQUEST, "created": False}
    assert stderr.splitlines()[0].startswith("error: trials_per_gpu auto needs a GPU to measure on")


def test_a_node_whose_gpus_torch_does_not_find_is_named_once(ended: tuple[Path, dict[str, Any], str]) -> None:
    assert ended[2].count("hold GPUs and train on the CPU") == 1


def test_a_trial_that_ran_out_of_memory_goes_on_with_the_whole_gpu_and_finishes(
    shared: Experiment, events: list[Event]
) -> None:
    again = next(event for event in events if event["event"] == "proposed" and event["attempt"] == 2)
    assert again["gpus"] == 1.0
    assert "can't allocate memory" in again["reason"]
    assert [trial.state for trial in shared.trials.values()] == ["finished"] * 3
    assert sorted(shared.trials[again["trial"]].curve) == [1, 2, 3, 4]


def test_it_has_the_gpu_for_itself_before_a_new_trial_gets_a_share(events: list[Event]) -> None:
    kinds = [(event["event"], event.get("trial"), event.get("attempt")) for event in events]
    number = next(trial for kind, trial, attempt in kinds if kind == "proposed" and attempt == 2)
    first, last = kinds.index(("report", number, 2)), kinds.index(("finished", number, None))
    assert {trial for kind, trial, _ in kinds[first:last] if kind == "report"} == {number}
    assert ("report", 2, 1) not in kinds[:last], "the third trial came after it"


def test_the_others_keep_their_share(events: list[Event]) -> None:
    assert events[0]["gpus_per_trial"] == 0.5
    assert [event["trial"] for event in events if "gpus" in event] == [
        event["trial"] for event in events if event.get("attempt") == 2 and event["event"] == "proposed"
    ]
