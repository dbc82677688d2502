"""A search with `start_from` takes over results of the earlier one, or tries its best configurations first."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from trainables.data import load_dataset
from trainables.settings import TrialSettings
from tune_mentormix.config.search_space import load_space, parse_space
from tune_mentormix.config.settings import EarlierResults, EarlierTrial, SearchSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.create import hold_new_experiment
from tune_mentormix.experiment.events import (
    Event,
    EventJournal,
    Failed,
    Finished,
    Proposed,
    Report,
    RunStarted,
    Stopped,
)
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.experiment.provenance import Provenance
from tune_mentormix.search.plan import SearchRequest, new_request, read_space, stored_request
from tune_mentormix.search.study import SearchStudy
from tune_mentormix.storage.journal import JOURNAL_FILE

Earlier = Callable[..., Path]
SPACE = parse_space(load_space("default"))


@pytest.fixture
def earlier(tmp_path: Path, small_settings: Callable[..., SearchSettings]) -> Earlier:
    """Writes an experiment whose trials were never trained: a control, three configurations and a lost one."""

    def write(name: str = "birds", **options: Any) -> Path:
        settings, space = read_space(small_settings(tmp_path, name=name, sampler="tpe", **options))
        dataset = load_dataset(settings.data_settings())
        experiment = Experiment(tmp_path / name, settings, Provenance.collect(dataset))
        common = settings.common_trial_settings() | space.fixed
        with (
            hold_new_experiment(experiment, dataset),
            closing(EventJournal(experiment.path / JOURNAL_FILE)) as journal,
        ):
            journal.record(RunStarted(run=1, num_samples=6))
            ends: dict[int, Event] = {
                0: Finished(trial=0),
                1: Finished(trial=1),
                2: Finished(trial=2),
                3: Stopped(trial=3),
            }
            ends |= {4: Failed(trial=4, error="val_loss is nan"), 5: Failed(trial=5, worker_lost=True)}
            for number, end in ends.items():
                config = TrialSettings(**(common | {"mixup_alpha": 1.0 + number})).model_dump()
                control = "plain" if number == 0 else None
                journal.record(Proposed(trial=number, control=control, config=config))
                scores: dict[str, Any] = {"val_accuracy": 0.1 * number, "macro_f1": 0.05 * number}
                journal.record(Report(trial=number, epoch=2, **scores))
                journal.record(end)
        return tmp_path / name

    return write


def test_the_sampler_is_told_the_results_and_none_of_them_is_trained_again(
    earlier: Earlier,
    small_settings: Callable[..., SearchSettings],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = earlier()
    with caplog.at_level(logging.WARNING, "tune_mentormix"):
        request = new_request(small_settings(tmp_path, name="more", start_from=str(folder), seed=7))
    assert "start_from birds: the sampler is told its 4 results, and trains no configuration of it again" in (
        caplog.messages
    )
    assert request.settings.first_trials == []
    known = request.settings.earlier_results
    assert known is not None
    study = SearchStudy(request.space, "tpe", 0, earlier=known).study
    told = {
        (trial.params["mixup_alpha"], trial.state, round(trial.intermediate_values[2], 6)) for trial in study.trials
    }
    complete, pruned = TrialState.COMPLETE, TrialState.PRUNED
    assert told == {(2.0, complete, 0.1), (3.0, complete, 0.2), (4.0, pruned, 0.3), (5.0, pruned, 0.4)}


def begun_and_earlier_deleted(
    name: str, earlier: Earlier, small_settings: Callable[..., SearchSettings], tmp_path: Path
) -> SearchRequest:
    """Writes a search that starts from the earlier one, deletes that, and returns the request."""
    request = new_request(small_settings(tmp_path, name=name, start_from=str(earlier())))
    experiment = Experiment(tmp_path / name, request.settings, Provenance.collect(request.dataset))
    with hold_new_experiment(experiment, request.dataset):
        shutil.rmtree(tmp_path / "birds")
    return request


def test_a_search_goes_on_from_one_that_went_on_itself(
    earlier: Earlier, small_settings: Callable[..., SearchSettings], tmp_path: Path
) -> None:
    request = begun_and_earlier_deleted("second", earlier, small_settings, tmp_path)
    third = new_request(small_settings(tmp_path, name="third", start_from=str(tmp_path / "second")))
    assert third.settings.earlier_results is not None
    assert third.settings.earlier_results.trials == request.settings.earlier_results.trials  # type: ignore[union-attr]


def test_the_results_stay_known_when_the_earlier_search_is_deleted(
    earlier: Earlier, small_settings: Callable[..., SearchSettings], tmp_path: Path
) -> None:
    request = begun_and_earlier_deleted("more", earlier, small_settings, tmp_path)
    again = stored_request(read_experiment(tmp_path, "more"), read_experiment(tmp_path, "more").settings)
    assert again.settings.earlier_results == request.settings.earlier_results


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"data_seed": 1}, "it was searched on other data, or another split or noise of them"),
        ({"epochs": 5}, "it has epochs 4, and this search 5"),
        ({"network": "resnet32"}, "it has network 'small_cnn', and this search 'resnet32'"),
        ({"trial": {"weight_decay": 0.1}}, "it has weight_decay 0.0002, and this search 0.1"),
        ({"metric": "top5_accuracy"}, "its top5_accuracy is not known"),
        ({"sampler": "random"}, "sampler random learns from no results"),
        ({"sampler": "cmaes"}, "sampler cmaes needs 10 trials that ran to the end, and it has 2"),
    ],
)
def test_what_trained_otherwise_is_only_tried_first(
    earlier: Earlier,
    small_settings: Callable[..., SearchSettings],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    reason: str,
) -> None:
    folder = earlier()
    with caplog.at_level(logging.WARNING, "tune_mentormix"):
        request = new_request(small_settings(tmp_path, name="more", start_from=str(folder), **options))
    line = "start_from birds: its best 2 configurations run first, and the sampler is not told its results, since"
    assert f"{line} {reason}" in caplog.messages
    assert [trial["mixup_alpha"] for trial in request.settings.first_trials] == [3.0, 2.0]
    assert request.settings.earlier_results is None


def test_another_metric_is_told_where_the_journal_has_it(
    earlier: Earlier, small_settings: Callable[..., SearchSettings], tmp_path: Path
) -> None:
    request = new_request(small_settings(tmp_path, name="more", start_from=str(earlier()), metric="macro_f1"))
    assert request.settings.earlier_results is not None
    assert [trial.score for trial in request.settings.earlier_results.trials][:2] == pytest.approx([0.1, 0.05])


def test_a_smaller_space_leaves_out_what_lies_outside(
    earlier: Earlier,
    small_settings: Callable[..., SearchSettings],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    space = {"mixup_alpha": {"low": 2.5, "high": 4.5}}
    with caplog.at_level(logging.WARNING, "tune_mentormix"):
        new_request(small_settings(tmp_path, name="more", start_from=str(earlier()), space=space))
    assert any(
        "is told its 2 results" in line and "it is not told 2 that lie outside the space" in line
        for line in caplog.messages
    )


def test_an_earlier_search_outside_the_space_is_refused(
    earlier: Earlier, small_settings: Callable[..., SearchSettings], tmp_path: Path
) -> None:
    space = {"mixup_alpha": {"low": 100, "high": 200}}
    with pytest.raises(RequestError, match=r"nothing in .*birds lies in this search's space of mixup_alpha"):
        new_request(small_settings(tmp_path, name="more", start_from=str(earlier()), space=space))


def known_results(count: int) -> EarlierResults:
    """Results of trials whose score grows with the percentile."""
    trials = [
        EarlierTrial(
            values={
                **{"mixup_alpha": 1.0 + number % 7, "loss_p_percentile": 0.1 + 0.8 * number / count},
                **{"burn_in": float(number % 15), "second_reweight": number % 2 == 0},
            },
            ran_to_its_end=number % 3 != 2,
            epoch=4 if number % 3 != 2 else 2,
            score=None if number % 9 == 8 else number / count,
        )
        for number in range(count)
    ]
    common = TrialSettings().model_dump(exclude={"seed"})
    return EarlierResults(experiment="birds", metric="val_accuracy", fingerprint="0", common=common, trials=trials)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes"])
def test_a_sampler_that_was_told_results_proposes_the_same_after_a_resume(sampler: str) -> None:
    known = known_results(36)
    live, resumed = (SearchStudy(SPACE, sampler, seed=3, earlier=known) for _ in range(2))
    for number in range(6):
        params = live.propose(number)
        config = TrialSettings(**params).model_dump()
        for event in (
            Proposed(trial=number, config=config),
            Report(trial=number, epoch=4, val_accuracy=params["loss_p_percentile"]),
            Finished(trial=number),
        ):
            live.apply(event)
            resumed.apply(event)
    assert live.propose(6) == resumed.propose(6)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes"])
def test_a_sampler_that_was_told_results_proposes_what_was_good_in_them(sampler: str) -> None:
    def mean_percentile(earlier: EarlierResults | None) -> float:
        study = SearchStudy(SPACE, sampler, seed=5, earlier=earlier)
        proposed: list[float] = []
        for number in range(5):
            params = study.propose(number)
            proposed.append(params["loss_p_percentile"])
            study.apply(Proposed(trial=number, config=TrialSettings(**params).model_dump()))
            study.apply(Report(trial=number, epoch=4, val_accuracy=params["loss_p_percentile"]))
            study.apply(Finished(trial=number))
        return sum(proposed) / len(proposed)

    assert mean_percentile(known_results(36)) > max(0.6, mean_percentile(None))


def test_a_grid_leaves_out_what_was_tried_before() -> None:
    space = parse_space(load_space("published"))
    first = SearchStudy(space, "grid", seed=0)
    points = [first.propose(number) for number in range(40)]
    known = known_results(0).model_copy(
        update={"trials": [EarlierTrial(values=point, ran_to_its_end=True, epoch=4, score=0.5) for point in points]}
    )
    study = SearchStudy(space, "grid", seed=0, earlier=known)
    assert [study.propose(number) in points for number in range(2)] == [False, False]
    assert study.is_exhausted
