"""Which trials a search proposes: the controls first, and the published setting for the noise that it showed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.searches import quiet
from trainables.data import load_dataset
from tune_mentormix.config.controls import published_row
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.experiment.events import EventJournal, Finished, NoiseEstimated, Proposed, Report, replay
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.schemas import NoiseEstimate
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.search.forecast import Forecast
from tune_mentormix.search.plan import read_space
from tune_mentormix.search.proposals import search_proposals
from tune_mentormix.search.searcher import Run, TrialStart
from tune_mentormix.search.stopper import Plateau
from tune_mentormix.search.study import SearchStudy


class Search:
    """A search whose trials are proposed and recorded, and never train."""

    def __init__(self, path: Path, settings: SearchSettings) -> None:
        """Begins a search, or resumes the one whose journal is at `path`."""
        settings, space = read_space(settings)
        self.experiment = Experiment(path, settings, num_samples=settings.num_samples)
        study, plateau = SearchStudy(space, settings.sampler, settings.seed), Plateau(None)
        replay(path / "journal.jsonl", self.experiment.apply, study.apply)
        self.journal = EventJournal(path / "journal.jsonl")
        self.journal.subscribe(self.experiment.apply, study.apply)
        run = Run(self.experiment, self.journal, settings, load_dataset(settings.data_settings()), quiet)
        self._proposals: Iterator[TrialStart | None] = search_proposals(
            run, study, space, plateau, Forecast(self.experiment)
        )

    def propose(self) -> Trial:
        """The next trial, which is then running."""
        trial = self.propose_or_wait()
        assert trial is not None
        return trial

    def propose_or_wait(self) -> Trial | None:
        """The next trial; None where the search waits for one that runs."""
        start = next(self._proposals)
        if start is None:
            return None
        trial = start.trial
        self.journal.record(
            Proposed(trial=trial.number, control=trial.control, enqueued=trial.enqueued, config=trial.config)
        )
        return self.experiment.trials[trial.number]

    def finish(self, number: int, rate: float | None = None) -> None:
        """Ends a trial, whose network sees so much noise."""
        if rate is not None:
            noise = NoiseEstimate(images=60, rate=rate, concentration=0.0, is_symmetric=True, transition=None)
            self.journal.record(NoiseEstimated(trial=number, epoch=4, noise=noise))
        self.journal.record(Report(trial=number, epoch=4, val_accuracy=0.5))
        self.journal.record(Finished(trial=number))


@pytest.fixture
def begin(tmp_path: Path, small_settings: Callable[..., SearchSettings]) -> Callable[..., Search]:
    return lambda **options: Search(tmp_path, small_settings(tmp_path, **{"sampler": "random"} | options))


def test_the_published_setting_starts_with_40_percent_whatever_the_true_noise_is(
    begin: Callable[..., Search],
) -> None:
    search = begin(noise=0.6)
    first, second, third = (search.propose() for _ in range(3))
    assert (first.control, published_row(first.config)) == ("published", 0.4)
    assert (second.control, third.control) == ("plain", None)


@pytest.mark.parametrize(("rate", "row"), [(0.22, 0.2), (0.57, 0.6), (0.9, 0.8)])
def test_another_row_trains_next_if_the_estimated_noise_is_nearer_to_it(
    begin: Callable[..., Search], rate: float, row: float
) -> None:
    search = begin()
    search.propose()
    search.finish(0, rate)
    again, plain, sampled = (search.propose() for _ in range(3))
    assert (again.control, published_row(again.config)) == ("published", row)
    assert again.config["decay_under_second_reweight"] is (row < 0.5)
    assert (plain.control, sampled.control) == ("plain", None)
    assert search.experiment.controls()["published"].number == 0
    search.finish(again.number, 0.41)  # its own estimate changes nothing any more
    assert search.experiment.controls()["published"] is again
    assert search.propose().control is None


@pytest.mark.parametrize("rate", [0.31, 0.49, None])
def test_no_other_row_trains_if_40_percent_is_nearest_or_nothing_is_known(
    begin: Callable[..., Search], rate: float | None
) -> None:
    search = begin(num_samples=3)
    search.propose()
    search.finish(0, rate)
    proposed = [search.propose(), search.propose()]
    assert [trial.control for trial in proposed] == ["plain", None]


def test_the_last_trial_waits_until_the_noise_is_known(begin: Callable[..., Search]) -> None:
    search = begin(num_samples=3)
    assert [trial.control for trial in (search.propose(), search.propose())] == ["published", "plain"]
    assert search.propose_or_wait() is None
    search.finish(0, 0.6)
    last = search.propose()
    assert (last.number, last.control, published_row(last.config)) == (2, "published", 0.6)


def test_a_resume_proposes_the_nearer_row_once(begin: Callable[..., Search]) -> None:
    search = begin()
    search.propose()
    search.finish(0, 0.6)
    resumed = begin()
    again = resumed.propose()
    assert published_row(again.config) == 0.6
    following = [trial.control for trial in (begin().propose(), begin().propose())]
    assert following == ["plain", None]


def test_only_the_controls_that_are_asked_for_run(begin: Callable[..., Search]) -> None:
    search = begin(controls=["mixup"], num_samples=2)
    assert [trial.control for trial in (search.propose(), search.propose())] == ["mixup", None]
