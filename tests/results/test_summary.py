"""What a search is said to have found: the best of all, and whether its lead is more than chance explains."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.simulated_search import simulate_search
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.experiment.events import Event, Finished, Proposed, Report
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.results.summary import search_status, summarize, turning_epoch

IMAGES = 400
PUBLISHED, PLAIN, FOUND = 0, 1, 2


def right(count: int, luck: int = 0) -> NDArray[np.bool_]:
    """The first `count` images, but for `luck` pairs of a right and a wrong one that are swapped."""
    answers = np.arange(IMAGES) < count
    swapped = np.random.default_rng(count).permutation(min(count, IMAGES - count))[:luck]
    answers[count - 1 - swapped], answers[count + swapped] = False, True
    return answers


def trial_events(number: int, control: str | None, *reports: tuple[int, NDArray[np.bool_]]) -> list[Event]:
    config = {"epochs": 20, "mentor": "uniform" if control == "plain" else "threshold", "mixup_alpha": float(number)}
    events: list[Event] = [Proposed(trial=number, control=control, config=config)]
    for epoch, answers in reports:
        bits = base64.b64encode(np.packbits(answers).tobytes()).decode()
        accuracy = float(answers.mean())
        events.append(Report(trial=number, epoch=epoch, val_accuracy=accuracy, val_images=IMAGES, val_correct=bits))
    return [*events, Finished(trial=number)]


def searched(*trials: list[Event], with_answers: bool = True) -> Experiment:
    experiment = Experiment(Path("results/birds"), SearchSettings())
    experiment.provenance.dataset.validation_images = IMAGES
    for event in (event for events in trials for event in events):
        if isinstance(event, Report) and not with_answers:
            event = event.model_copy(update={"val_correct": None, "val_images": None})
        experiment.apply(event)
    return experiment


def search_of(published: int, plain: int, *found: int, luck: int = 4, with_answers: bool = True) -> Experiment:
    """A search whose trials have these numbers of right answers, the controls first."""
    counts: Sequence[tuple[str | None, int]] = [
        ("published", published),
        ("plain", plain),
        *((None, count) for count in found),
    ]
    trials = [
        trial_events(number, control, (20, right(count, luck))) for number, (control, count) in enumerate(counts)
    ]
    return searched(*trials, with_answers=with_answers)


def test_a_lead_on_the_same_images_is_a_gain_where_accuracies_alone_could_not_tell() -> None:
    paired, unpaired = (
        summarize(search_of(200, 180, 216, 210, with_answers=with_answers)) for with_answers in (True, False)
    )
    assert paired.headline == "A gain: 4.0 points ahead of the published setting"
    assert paired.is_gain
    assert "compared on the same 400 validation images" in paired.explanation
    assert unpaired.headline == "A small lead: 4.0 points ahead of the published setting"
    assert not unpaired.is_gain
    assert "Luck alone can put the best of 4 finished trials on this many validation images" in unpaired.explanation


def test_a_control_is_named_as_in_a_sentence() -> None:
    assert summarize(search_of(180, 200, 216)).headline == "A gain: 4.0 points ahead of plain training"


def test_a_lead_that_few_images_make_is_small_and_the_bound_grows_with_the_trials_compared() -> None:
    few = summarize(search_of(200, 180, 204))
    many = summarize(search_of(200, 180, 204, *range(170, 190)))
    assert few.headline == many.headline == "A small lead: 1.0 points ahead of the published setting"
    assert few.lead is not None
    assert many.lead is not None
    assert few.lead.by_chance is not None
    assert many.lead.by_chance is not None
    assert few.lead.by_chance < many.lead.by_chance


def test_where_plain_training_is_best_it_is_the_answer_and_the_best_with_mentormix_stands_beside_it() -> None:
    experiment = search_of(190, 215, 199, 180)
    summary = summarize(experiment)
    best = experiment.best()
    assert best is not None
    assert best.number == PLAIN
    assert summary.headline == "Plain training is best here: on this budget MentorMix does not help"
    assert "The best with MentorMix (trial 2) is 4.0 points behind." in summary.explanation
    assert [row.title for row in summary.compared] == ["best found", "published setting", "best with MentorMix"]
    assert not summary.is_gain
    assert summary.lead is not None
    assert summary.lead.points == pytest.approx(25 / IMAGES)


def test_a_control_that_is_ahead_by_chance_alone_is_said_to_be() -> None:
    assert "behind, which chance can explain." in summarize(search_of(190, 202, 200)).explanation


def test_the_verdict_is_part_of_the_status() -> None:
    verdict = search_status(search_of(200, 180, 216)).verdict
    assert verdict is not None
    assert verdict.is_gain
    assert verdict.lead == pytest.approx(0.04)
    assert verdict.bound is not None
    assert 0 < verdict.bound < 0.04


def test_a_trial_with_fewer_images_or_a_lost_file_falls_back_to_accuracies(tmp_path: Path) -> None:
    experiment = search_of(200, 180, 216)
    trial = experiment.trials[FOUND]
    trial.answers[20] = trial.answers[20]._replace(bits=tmp_path / "lost.bits")
    assert trial.correct_answers(20) is None
    assert "Luck alone" in summarize(experiment).explanation


@pytest.mark.parametrize("falls", [True, False])
def test_it_is_said_whether_plain_training_has_begun_to_memorise(falls: bool) -> None:
    counts = [100 + 20 * min(epoch, 8) - (12 * max(0, epoch - 8) if falls else 0) for epoch in range(1, 21)]
    plain = [(epoch, right(count, 5)) for epoch, count in enumerate(counts, start=1)]
    experiment = searched(trial_events(PUBLISHED, "published", (20, right(50))), trial_events(PLAIN, "plain", *plain))
    epoch = turning_epoch(experiment, experiment.trials[PLAIN])
    explanation = summarize(experiment).explanation
    if falls:
        assert epoch in (7, 8, 9)
        assert f"turns down after epoch {epoch} of 20: from there it memorises wrong labels" in explanation
    else:
        assert epoch is None
        assert "has not turned down within 20 epochs" in explanation


def test_a_whole_search_is_compared_pairwise_if_its_journal_has_the_answers(tmp_path: Path) -> None:
    old, new = (simulate_search(tmp_path, name, 12, epochs=12, with_answers=name == "new") for name in ("old", "new"))
    leads = [summarize(experiment).lead for experiment in (old, new)]
    assert leads[0] is not None
    assert leads[1] is not None
    assert leads[0].points == leads[1].points
    assert (leads[0].images, leads[1].images) == (None, 10_000)
    assert leads[0].by_chance is not None
    assert leads[1].by_chance is not None
    assert leads[1].by_chance < leads[0].by_chance
