"""What we use of Ray that its documentation does not promise: a Ray that changes it fails here, by name.

`pyproject.toml` bounds Ray's version; before the bound is raised, these tests run with the new version.
"""

import inspect
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import ray
from ray.train._internal.storage import StorageContext
from ray.tune import Callback, Stopper, Trainable
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.search_generator import SearchGenerator

RAY = Path(ray.__file__).parent
SWITCHES = [
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV",
    "RAY_USAGE_STATS_ENABLED",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO",
    "RAY_AIR_NEW_OUTPUT",
    "TUNE_MAX_PENDING_TRIALS_PG",
    "TUNE_DISABLE_SIGINT_HANDLER",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS",
    "TUNE_GLOBAL_CHECKPOINT_S",
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE",
]


class Proposing(Searcher):
    """A searcher that returns what it is given, one after the other."""

    def __init__(self, *answers: object) -> None:
        super().__init__(metric="val_accuracy", mode="max")
        self.answers = list(answers)

    def suggest(self, trial_id: str) -> object:  # type: ignore[override]  # FINISHED is a string
        return self.answers.pop(0)


@pytest.fixture(scope="module")
def sources() -> str:
    """The Python code of those parts of Ray that a search runs."""
    parts = ("_private", "_common", "tune", "train", "air")
    return "\n".join(file.read_text() for part in parts for file in (RAY / part).rglob("*.py"))


@pytest.mark.parametrize("switch", SWITCHES)
def test_ray_still_reads_the_switch(switch: str, sources: str) -> None:
    assert f'"{switch}"' in sources


def test_the_switches_are_set_before_ray_is_imported() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    code = f"import sys, os, tune_mentormix; print('ray' in sys.modules, all(s in os.environ for s in {SWITCHES}))"
    printed = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert printed.split() == ["False", "True"]


def test_the_installed_ray_lies_within_the_tested_bound() -> None:
    required = next(line for line in metadata.requires("tune-mentormix") or [] if line.startswith("ray[tune]"))
    assert "<2.61" in required
    assert ray.__version__.startswith("2.60.")


def test_none_means_later_and_finished_means_never_again() -> None:
    generator = SearchGenerator(Proposing(None, Searcher.FINISHED))
    generator._total_samples = sys.maxsize  # what `tune.run` makes of num_samples=-1
    specification = {"run": "PPO", "config": {}}
    assert generator.create_trial_if_possible(specification) is None
    assert not generator.is_finished()
    assert generator.create_trial_if_possible(specification) is None
    assert generator.is_finished()


def test_a_trial_has_what_the_callbacks_read() -> None:
    trial = Trial("PPO", stub=True, config={"trial": 3}, max_failures=0)
    assert trial.config["trial"] == 3
    assert trial.temporary_state.ray_actor is None
    assert isinstance(trial.last_result, dict)
    assert "error_file" in vars(Trial)
    assert trial.status in (Trial.PENDING, Trial.RUNNING)


def test_the_hooks_have_the_names_that_tune_calls() -> None:
    hooks = (
        "on_step_end",
        "on_trial_start",
        "on_trial_result",
        "on_checkpoint",
        "on_trial_complete",
        "on_trial_error",
    )
    assert all(callable(getattr(Callback, hook)) for hook in hooks)
    assert callable(Stopper.stop_all)
    assert {TrialScheduler.CONTINUE, TrialScheduler.STOP} == {"CONTINUE", "STOP"}
    assert "search_alg" in inspect.signature(TuneController.__init__).parameters


def test_a_trainable_knows_its_storage_and_counts_its_checkpoints_there() -> None:
    assert "storage" in inspect.signature(Trainable.__init__).parameters
    assert "current_checkpoint_index" in inspect.signature(StorageContext.__init__).parameters
    assert "self._storage = storage" in inspect.getsource(Trainable.__init__)
    assert "checkpoint_dir" in inspect.signature(Trainable.save).parameters
