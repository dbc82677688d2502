"""What further trials are expected to gain follows from the trials alone, and falls as a search goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.simulated_search import simulate_search
from tune_mentormix.cli.app import run
from tune_mentormix.experiment.events import EventJournal
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.results.expected_gain import expected_gain
from tune_mentormix.results.summary import search_status
from tune_mentormix.search.forecast import Forecast
from tune_mentormix.storage.journal import JOURNAL_FILE


@pytest.fixture
def short(tmp_path: Path) -> Experiment:
    return simulate_search(tmp_path, "short", 12)


@pytest.fixture
def journal(short: Experiment) -> EventJournal:
    journal = EventJournal(short.path / JOURNAL_FILE)
    journal.subscribe(short.apply)
    return journal


def test_the_gain_falls_as_the_search_goes_on(short: Experiment, tmp_path: Path) -> None:
    long = simulate_search(tmp_path, "long", 120)
    soon, late = expected_gain(short), expected_gain(long)
    assert soon is not None
    assert late is not None
    assert soon.mean > late.mean
    assert soon.upper > late.upper
    assert soon.upper >= soon.mean > 0
    assert abs(late.mean) < 0.01


def test_equal_trials_give_equal_predictions_and_more_trials_more_gain(short: Experiment, tmp_path: Path) -> None:
    again = simulate_search(tmp_path, "again", 12)
    assert expected_gain(again) == expected_gain(short)
    one, many = expected_gain(short, 1), expected_gain(short, 40)
    assert one is not None
    assert many is not None
    assert one.mean < many.mean


def test_too_few_finished_trials_tell_nothing(tmp_path: Path) -> None:
    few = simulate_search(tmp_path, "few", 4)
    journal = EventJournal(few.path / JOURNAL_FILE)
    journal.subscribe(few.apply)
    forecast = Forecast(few, 100.0)
    forecast.complete(journal)
    assert not forecast.is_reached
    assert search_status(few).expected_gain is None


def test_what_tells_nothing_promises_little_and_fails_no_search(short: Experiment, journal: EventJournal) -> None:
    for trial in short.trials.values():
        trial.reports = {epoch: report | {"val_accuracy": 0.1} for epoch, report in trial.reports.items()}
    gain = expected_gain(short)
    assert gain is not None
    assert abs(gain.mean) < 0.01
    assert isinstance(short.settings.space, dict)
    short.settings.space["mixup_alpha"] = {"choices": ["no number"]}  # as if the file had been edited
    Forecast(short).complete(journal)
    assert short.expected_gain is None


def test_every_view_shows_what_the_journal_tells(
    short: Experiment, journal: EventJournal, capsys: pytest.CaptureFixture[str]
) -> None:
    Forecast(short).complete(journal)
    shown = str(search_status(short).expected_gain)
    assert shown.startswith("Expected gain of 10 more trials: ")
    assert read_experiment(short.path.parent, "short").expected_gain == short.expected_gain
    assert run(["status", "short", "--storage", str(short.path.parent)]) == 0
    assert shown in capsys.readouterr().out.replace("\n", " ")
    page = Path(str(short.path.parent)) / "report.html"
    assert run(["report", "short", "--storage", str(short.path.parent), "--out", str(page)]) == 0
    assert shown in page.read_text()


def test_a_forecast_is_made_once_many_trials_have_ended_and_at_the_end(
    short: Experiment, journal: EventJournal, tmp_path: Path
) -> None:
    def forecasts() -> int:
        return (Path(str(short.path)) / JOURNAL_FILE).read_text().count('"expected_gain"')

    forecast = Forecast(short)
    forecast.update(journal)
    forecast.update(journal)
    assert forecasts() == 1
    short.trials[12] = simulate_search(tmp_path, "other", 13).trials[12]
    forecast.update(journal)
    assert forecasts() == 1
    forecast.complete(journal)
    assert forecasts() == 2
    assert short.expected_gain is not None
    assert short.expected_gain.after == 13


def test_a_search_ends_below_the_gain_that_was_asked_for(short: Experiment, journal: EventJournal) -> None:
    gain = expected_gain(short)
    assert gain is not None
    for until, is_reached in ((None, False), (100 * gain.mean * 0.9, False), (100 * gain.mean * 1.1, True)):
        forecast = Forecast(short, until)
        assert forecast.is_reached is (is_reached and short.expected_gain is not None)
        forecast.update(journal)
        assert forecast.is_reached is is_reached
