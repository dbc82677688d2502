"""What every stopping rule promises."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_mentormix.schedulers import RULES, StoppingRule

EPOCHS = 12
STOPPING = sorted(RULES.keys() - {"none"})


def make(name: str) -> StoppingRule:
    return RULES[name](3, 2, EPOCHS)


def proposed(trial: int, control: str | None = None) -> dict[str, Any]:
    return {"event": "proposed", "trial": trial, "control": control}


def report(trial: int, epoch: int, accuracy: float | None) -> dict[str, Any]:
    return {"event": "report", "trial": trial, "epoch": epoch, "val_accuracy": accuracy}


def train(rule: StoppingRule, trial: int, accuracy: float) -> int:
    """Trains a trial of constant accuracy until the rule stops it; returns the epochs run."""
    rule.apply(proposed(trial))
    for epoch in range(1, EPOCHS + 1):
        if not rule.goes_on(trial, epoch, accuracy):
            return epoch
    return EPOCHS


@pytest.mark.parametrize("name", sorted(RULES))
@given(
    reports=st.lists(st.tuples(st.integers(0, 12), st.integers(1, EPOCHS), st.floats(0, 1) | st.none()), max_size=120)
)
def test_a_replayed_rule_decides_as_the_live_one_did(name: str, reports: list[tuple[int, int, float | None]]) -> None:
    live, replayed = make(name), make(name)
    for trial in range(13):
        for rule in (live, replayed):
            rule.apply(proposed(trial, "plain" if trial == 0 else None))
    for trial, epoch, accuracy in reports:
        goes_on = not live.stopped(trial) if accuracy is None else live.goes_on(trial, epoch, accuracy)
        replayed.apply(report(trial, epoch, accuracy))
        assert replayed.stopped(trial) is not goes_on


@pytest.mark.parametrize("name", STOPPING)
@given(order=st.permutations(range(14)))
def test_the_best_trial_runs_to_its_end_and_some_others_do_not(name: str, order: list[int]) -> None:
    rule = make(name)
    epochs = {trial: train(rule, trial, trial / 14) for trial in order}
    assert epochs[13] == EPOCHS


@pytest.mark.parametrize("name", STOPPING)
def test_hopeless_trials_are_stopped_at_an_epoch_of_comparison_and_nobody_before_the_grace_period(name: str) -> None:
    rule = make(name)
    epochs = [train(rule, trial, 0.9 - trial / 100) for trial in range(30)]
    assert min(epochs) == 3
    assert EPOCHS in epochs
    assert all(rule.stopped(trial) == (ran < EPOCHS) for trial, ran in enumerate(epochs))


@pytest.mark.parametrize("name", sorted(RULES))
def test_controls_are_neither_stopped_nor_counted(name: str) -> None:
    rule = make(name)
    for trial in range(20):
        rule.apply(proposed(trial, "plain"))
        assert all(rule.goes_on(trial, epoch, 0.9) for epoch in range(1, EPOCHS + 1))
    assert train(rule, 20, 0.1) == EPOCHS
    assert rule.goes_on(0, EPOCHS, 0.0)


def test_hyperband_lets_some_trials_skip_the_first_rung() -> None:
    rule = make("hyperband")
    first_stop = [train(rule, trial, 0.9 - trial / 100) for trial in range(30)]
    assert {3, 6} <= set(first_stop)
