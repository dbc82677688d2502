import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_mentormix.experiment.events import Proposed, Report
from tune_mentormix.search.early_stopping import MIN_TRIALS_PER_RUNG, AsyncSuccessiveHalving, rung_epochs


def proposed(trial: int, control: str | None = None) -> Proposed:
    return Proposed(trial=trial, config={}, control=control)


def report(trial: int, epoch: int, accuracy: float | None) -> Report:
    return Report(trial=trial, epoch=epoch, val_accuracy=accuracy)


def continues(asha: AsyncSuccessiveHalving, trial: int, epoch: int, accuracy: float) -> bool:
    """Reports an epoch, and returns whether the trial continues."""
    asha.record(trial, epoch, accuracy)
    return not asha.is_stopped(trial)


def test_rungs_grow_by_the_factor_and_end_before_the_last_epoch() -> None:
    assert rung_epochs(2, 2, 16) == [2, 4, 8]
    assert rung_epochs(3, 3, 100) == [3, 9, 27, 81]
    assert rung_epochs(10, 2, 10) == []


def test_no_trial_is_stopped_before_enough_trials_reached_the_rung() -> None:
    asha = AsyncSuccessiveHalving([5], 2)
    falling = [continues(asha, trial, 5, 0.9 - 0.1 * trial) for trial in range(MIN_TRIALS_PER_RUNG)]
    assert falling == [True] * (MIN_TRIALS_PER_RUNG - 1) + [False]


def test_hopeless_trials_are_stopped_at_a_rung_and_others_run_to_their_end() -> None:
    asha = AsyncSuccessiveHalving([3, 6])
    ran = []
    for trial in range(30):
        has_next_epoch = [continues(asha, trial, epoch, 0.9 - trial / 100) for epoch in range(1, 13)]
        ran.append(has_next_epoch.index(False) + 1 if False in has_next_epoch else 12)
    assert set(ran) == {3, 12}
    assert all(asha.is_stopped(trial) == (epochs < 12) for trial, epochs in enumerate(ran))


def test_without_rungs_no_trial_is_stopped() -> None:
    asha = AsyncSuccessiveHalving()
    assert all(continues(asha, trial, epoch, -trial) for trial in range(10) for epoch in range(1, 13))


def test_between_rungs_no_trial_is_stopped() -> None:
    asha = AsyncSuccessiveHalving([5], 2)
    for trial in range(10):
        assert continues(asha, trial, 4, -trial)


def test_a_control_is_neither_stopped_nor_counted() -> None:
    asha = AsyncSuccessiveHalving([5], 2)
    for trial in range(10):
        asha.apply(proposed(trial, "plain"))
        asha.apply(report(trial, 5, 0.9))
    asha.apply(proposed(10))
    assert continues(asha, 10, 5, 0.1)
    assert continues(asha, 0, 5, 0.0)


def test_a_decision_once_made_stands_when_the_epoch_is_run_again() -> None:
    asha = AsyncSuccessiveHalving([5], 2)
    assert continues(asha, 0, 5, 0.1)
    for trial in range(1, 9):
        continues(asha, trial, 5, 0.9)
    assert continues(asha, 0, 5, 0.1)


@pytest.mark.parametrize("epochs", [[3, 6], []])
@given(reports=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 12), st.floats(0, 1) | st.none()), max_size=120))
def test_replayed_rungs_decide_as_the_live_ones_did(
    epochs: list[int], reports: list[tuple[int, int, float | None]]
) -> None:
    live, replayed = AsyncSuccessiveHalving(epochs), AsyncSuccessiveHalving(epochs)
    for trial in range(13):
        for asha in (live, replayed):
            asha.apply(proposed(trial, "plain" if trial == 0 else None))
    for trial, epoch, accuracy in reports:
        has_next_epoch = not live.is_stopped(trial) if accuracy is None else continues(live, trial, epoch, accuracy)
        replayed.apply(report(trial, epoch, accuracy))
        assert replayed.is_stopped(trial) is not has_next_epoch


@given(st.permutations(range(12)))
def test_the_best_trial_is_never_stopped(order: list[int]) -> None:
    asha = AsyncSuccessiveHalving([3], 2)
    for trial in order:
        has_next_epoch = continues(asha, trial, 3, trial / 12)
        assert has_next_epoch or trial != 11


def test_a_report_without_accuracy_changes_nothing() -> None:
    asha = AsyncSuccessiveHalving([3], 2)
    asha.apply(report(0, 3, None))
    assert not asha.is_stopped(0)
