"""A search by another metric than the accuracy: it is what everything goes by, and nothing untrue is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tune_mentormix.config.search_space import parse_space
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.config.settings_file import read_settings
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.events import Event, Finished, Proposed, Report
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.optuna_study import rebuild_study
from tune_mentormix.results.comparison import compare
from tune_mentormix.results.summary import summarize
from tune_mentormix.results.trial_table import TrialTable
from tune_mentormix.search.early_stopping import AsyncSuccessiveHalving
from tune_mentormix.search.stopper import Plateau
from tune_mentormix.search.study import SearchStudy
from tune_mentormix.storage.yaml_files import YamlDocument

SPACE = {"mixup_alpha": {"low": 1.0, "high": 8.0}}
CONFIG = {"mixup_alpha": 2.0, "epochs": 2, "mentor": "threshold", "network": "small_cnn", "seed": 0}
SCORES = {0: (0.9, 0.1), 1: (0.5, 0.4), 2: (0.4, 0.6), 3: (0.8, 0.2), 4: (0.7, 0.3)}  # accuracy, macro F1


def events_of(key: str) -> list[Event]:
    events: list[Event] = []
    for number, (accuracy, score) in SCORES.items():
        config = CONFIG | {"mixup_alpha": 2.0 + number}
        events.append(Proposed(trial=number, control="published" if number == 0 else None, config=config))
        for epoch, part in ((1, 1.0), (2, 0.9)):
            report = {"trial": number, "epoch": epoch, "val_accuracy": accuracy * epoch / 2, key: score * part}
            events.append(Report.model_validate(report))
        events.append(Finished(trial=number))
    return events


def searched(metric: str, key: str) -> Experiment:
    settings = SearchSettings.model_validate({"metric": metric, "space": SPACE})
    experiment = Experiment(Path("results") / metric.replace(":", "."), settings)
    for event in events_of(key):
        experiment.apply(event)
    return experiment


@pytest.mark.parametrize(("metric", "key"), [("macro_f1", "macro_f1"), ("birds.metrics:score", "own_metric")])
def test_the_best_is_that_by_the_metric(metric: str, key: str) -> None:
    experiment = searched(metric, key)
    best = experiment.best()
    assert best is not None
    assert (best.number, best.val_accuracy, best.best_epoch) == (2, 0.4, 1)
    assert best.score == pytest.approx(0.54)
    assert [trial.number for trial in experiment.ranked_trials()] == [2, 1, 4, 3, 0]
    shown = experiment.status().best
    assert shown is not None
    assert (experiment.status().metric, shown.score, shown.val_accuracy) == (key, best.score, 0.4)
    assert rebuild_study(experiment).best_trial.user_attrs["trial"] == 2
    table = TrialTable(experiment)
    table.sort(key)
    assert [row["trial"] for row in table.rows] == [2, 1, 4, 3, 0]
    assert table.records()[0].metrics[key] == best.score


def test_no_bound_by_chance_is_told_of_another_metric() -> None:
    finding = summarize(searched("macro_f1", "macro_f1"))
    assert finding.headline == "By macro_f1, trial 2 is the best of this search"
    assert finding.explanation.startswith(
        "By macro_f1 on the noisy validation labels: best found 0.5400, published setting 0.0900."
    )
    assert (finding.lead, finding.is_gain, {row.behind for row in finding.compared}) == (None, False, {None})


def test_searches_by_different_metrics_have_no_lead() -> None:
    comparison = compare([searched("macro_f1", "macro_f1"), searched("val_accuracy", "macro_f1")])
    assert comparison.leads() == []
    assert any("the searches maximise different metrics" in reason for reason in comparison.reservations)


def test_sampler_rungs_and_patience_go_by_the_metric() -> None:
    study = SearchStudy(parse_space(YamlDocument(SPACE, "space")), "random", 0, "macro_f1")
    halving, plateau = AsyncSuccessiveHalving([1], 2.0, "macro_f1"), Plateau(2, "macro_f1")
    for event in events_of("macro_f1"):
        for handler in (study.apply, halving.apply, plateau.apply):
            handler(event)
    assert study.study.best_value == pytest.approx(0.54)
    assert [number for number in SCORES if halving.is_stopped(number)] == [4]  # the fourth, with two better ones
    assert plateau.is_reached


@pytest.mark.parametrize("metric", ["accuracy", "birds.metrics", "a:b.c"])
def test_other_names_are_refused(metric: str) -> None:
    with pytest.raises(RequestError, match=f"unknown metric '{metric}'.*known: balanced_accuracy, macro_f1"):
        read_settings(None, {"metric": metric})
