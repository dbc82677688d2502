from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from tune_mentormix.experiment import Experiment, Trial
from tune_mentormix.journal import JOURNAL_FILE, read_events
from tune_mentormix.population import donor_of, perturbed
from tune_mentormix.search import resume_search, start_search
from tune_mentormix.settings import SearchSettings

POPULATION = {
    "scheduler": "pbt",
    "num_samples": 8,  # five members beside the controls
    "epochs": 8,
    "grace_period": 5,
    "space": {"mixup_alpha": {"low": 0.4, "high": 32, "log": True}, "loss_p_percentile": {"low": 0.1, "high": 0.9}},
}
BOUNDARIES = [5, 6, 7]


def member(number: int, accuracy: float | None) -> Trial:
    return Trial(number, {}, reports={3: {"val_accuracy": accuracy}})


def test_only_the_worst_quarter_copies_and_only_from_the_best_quarter() -> None:
    members = [member(number, number / 10) for number in range(9)]
    donors = [donor_of(members, number, 3, seed=0) for number in range(9)]
    assert {donors[0], donors[1]} <= {7, 8}
    assert donors[2:] == [None] * 7


def test_small_populations_and_members_without_a_result_copy_nobody() -> None:
    assert donor_of([member(number, number / 10) for number in range(3)], 0, 3, seed=0) is None
    members = [member(number, 0.5) for number in range(4)] + [member(4, None)]
    assert donor_of(members, 4, 3, seed=0) is None


@given(seed=st.integers(0, 2**32), value=st.floats(0.4, 32))
def test_a_perturbed_value_stays_in_its_range(seed: int, value: float) -> None:
    rng = np.random.default_rng(seed)
    assert 0.4 <= perturbed(FloatDistribution(0.4, 32, log=True), value, rng) <= 32
    whole = perturbed(IntDistribution(2, 9), 5, rng)
    assert isinstance(whole, int)
    assert 2 <= whole <= 9
    assert perturbed(CategoricalDistribution((True, False)), True, rng) in (True, False)


def test_a_population_interrupted_ends_like_one_that_was_not_and_whoever_copies_goes_on_from_the_copy(
    ray_session: None, small_settings: Callable[..., SearchSettings], tmp_path: Path
) -> None:
    def quiet(_experiment: Experiment) -> None:
        """Shows no progress."""

    def break_off(experiment: Experiment) -> None:
        if experiment.epochs_run >= 3 * 8 + 5 * 6 + 2:
            raise KeyboardInterrupt

    whole = start_search(small_settings(tmp_path, name="whole", **POPULATION), quiet)
    with pytest.raises(KeyboardInterrupt):
        start_search(small_settings(tmp_path, name="cut", **POPULATION), break_off)
    cut = resume_search(tmp_path, "cut", {}, quiet)

    assert cut.state() == whole.state() == "finished"
    assert {n: t.config for n, t in cut.trials.items()} == {n: t.config for n, t in whole.trials.items()}
    assert {n: t.curve for n, t in cut.trials.items()} == {n: t.curve for n, t in whole.trials.items()}
    assert all(list(trial.curve) == list(range(1, 9)) for trial in whole.trials.values())

    events = list(read_events(whole.path / JOURNAL_FILE))
    copies = [event for event in events if "copied_from" in event]
    assert [event["epoch"] for event in copies] == BOUNDARIES, "at each boundary, one of five copies"
    for copy in copies:
        again = next(
            e for e in events[events.index(copy) :] if e["event"] == "proposed" and e["trial"] == copy["trial"]
        )
        assert again["config"] != next(e for e in events if e["event"] == "proposed" and e["trial"] == copy["trial"])
        assert copy["copied_from"] != copy["trial"]
