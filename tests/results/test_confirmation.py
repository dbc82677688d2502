"""Tests what a confirmation's journal tells, without running anything."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.simulated_search import simulate_search
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.experiment.events import Eliminated, Failed, Finished, Proposed, Report
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.provenance import DatasetFacts, Provenance
from tune_mentormix.results import confirmation_summary
from tune_mentormix.results.candidates import Candidate
from tune_mentormix.results.confirmation import ABLATION_RUNS, Confirmation
from tune_mentormix.results.confirmation_summary import confirmation_record, confirmed_best, verdicts

SEEDS = [11, 12, 13]
SHARED = {"network": "small_cnn", "epochs": 1, "seed": 0}  # by all configurations
BEST, PUBLISHED, PLAIN = "trial 7", "published", "plain"
GOOD, BETTER, POOR = [0.55, 0.57, 0.56], [0.60, 0.61, 0.62], [0.40, 0.42, 0.40]


def told(accuracies: dict[str, list[float | None]]) -> Confirmation:
    """A confirmation whose runs ended so, by candidate and round; None failed, and missing ones were not run."""
    candidates = [
        Candidate(name, None if name.startswith("trial") else name, None, None, None, {}) for name in accuracies
    ]
    confirmation = Confirmation(Experiment(Path("nowhere"), SearchSettings()), candidates=candidates, seeds=SEEDS)
    for candidate in candidates:
        for round_number, accuracy in enumerate(accuracies[candidate.name]):
            run = confirmation.run_number(candidate, round_number)
            confirmation.apply(Proposed(trial=run, config={}, control=candidate.control))
            if accuracy is None:
                confirmation.apply(Failed(trial=run, error="val_loss is nan"))
            else:
                confirmation.apply(Report(trial=run, epoch=1, val_accuracy=accuracy))
                confirmation.apply(Finished(trial=run))
    return confirmation


def with_test_results(confirmation: Confirmation, accuracies: dict[str, list[float]]) -> Confirmation:
    """Returns the confirmation after an evaluation on the test set, with these results."""
    winner = confirmation.winner()
    assert winner is not None
    results = {name: dict(zip(map(str, SEEDS), values, strict=True)) for name, values in accuracies.items()}
    seeds = {c.name: sorted(confirmation.accuracies(c)) for c in confirmation.compared(winner)}
    confirmation.test_evaluations.append({"winner": winner.name, "seeds": seeds, "results": results})
    return confirmation


def sentences(confirmation: Confirmation) -> list[str]:
    winner = confirmation.winner()
    assert winner is not None
    return verdicts(confirmation, winner)


def test_a_gain_beyond_chance_is_told_in_points_with_its_interval() -> None:
    first, second = sentences(told({BEST: [*BETTER], PLAIN: [*POOR]}))
    assert first == "The winner is trial 7."
    assert second.startswith("It beats plain training by 20.3 points (95 % interval 16.54 … 24.13, 3 seeds)")
    assert second.endswith("on the noisy validation labels.")


def test_the_same_difference_on_every_seed_is_no_proof() -> None:
    confirmation = told({BEST: [0.60, 0.61, 0.62], PUBLISHED: [0.59, 0.60, 0.61]})
    expected = (
        "it differs from the published setting by 1.0 points on each of 3 seeds: without spread there is no interval."
    )
    assert sentences(confirmation)[1] == f"On the noisy validation labels {expected}"
    assert confirmation_record(confirmation)["gains"][0]["low"] is None


def test_a_difference_within_chance_is_called_a_tie() -> None:
    confirmation = told({BEST: [0.60, 0.56, 0.62], PUBLISHED: [0.57, 0.61, 0.58]})
    tie, advice = sentences(confirmation)[1:]
    assert tie.startswith("It is 0.7 points ahead of the published setting (95 % interval")
    assert tie.endswith("on the noisy validation labels: chance can explain that.")
    assert advice == "More seeds may decide it (--seeds)."


def test_a_winner_on_validation_that_the_test_set_refutes_is_called_worse() -> None:
    confirmation = with_test_results(told({BEST: [*BETTER], PLAIN: [*POOR]}), {BEST: [*POOR], PLAIN: [*BETTER]})
    worse, beats = sentences(confirmation)[1:]
    assert worse.startswith("It is worse than plain training by 20.3 points")
    assert worse.endswith("on the clean test labels.")
    assert beats.startswith("It beats plain training")


def test_a_control_that_wins_is_called_a_control() -> None:
    confirmation = told({BEST: [*GOOD], PUBLISHED: [*BETTER], PLAIN: [*POOR]})
    assert (
        sentences(confirmation)[0] == "The winner is the published setting, a control itself: nothing found beats it."
    )
    assert len(sentences(confirmation)) == 2


def test_plain_training_can_win_and_is_compared_with_the_best_that_uses_mentormix() -> None:
    confirmation = told({PUBLISHED: [*POOR], PLAIN: [*BETTER], BEST: [*GOOD], "trial 9": [*POOR]})
    winner = confirmation.winner()
    assert winner is not None
    assert winner.name == PLAIN
    assert [rival.name for rival in confirmation.rivals(winner)] == [BEST, PUBLISHED]
    first, beats, *_, last = sentences(confirmation)
    assert first == "Plain training is best here: on this budget MentorMix does not help."
    assert beats.startswith("It beats trial 7 by 5.0 points")
    assert last.startswith("Longer training may change this")
    assert [row["confirmed_rank"] for row in confirmation_record(confirmation)["candidates"]] == [3, 1, 2, 4]


def test_where_the_published_setting_is_the_best_with_mentormix_it_is_compared_once() -> None:
    confirmation = told({PUBLISHED: [*GOOD], PLAIN: [*BETTER], BEST: [*POOR]})
    assert [rival.name for rival in confirmation.rivals(confirmation.ranking()[0])] == [PUBLISHED]
    alone = told({PLAIN: [*GOOD]})
    assert alone.rivals(alone.ranking()[0]) == []


def test_a_test_evaluation_holds_for_a_winner_that_it_measured_beside_another() -> None:
    """Versions before this one named the best that uses MentorMix, and measured the controls beside it."""
    confirmation = told({BEST: [*GOOD], PLAIN: [*BETTER]})
    results = {name: dict(zip(map(str, SEEDS), POOR, strict=True)) for name in (BEST, PLAIN)}
    seeds = {BEST: SEEDS, PLAIN: SEEDS}
    confirmation.test_evaluations.append({"winner": BEST, "seeds": seeds, "results": results})
    assert confirmation.test_evaluation is not None


def test_the_table_has_the_accuracy_at_each_runs_best_epoch_beside_the_last() -> None:
    confirmation = Confirmation(Experiment(Path("nowhere"), SearchSettings()), [], seeds=SEEDS[:2])
    candidate = Candidate(BEST, None, 7, None, None, {})
    confirmation.candidates.append(candidate)
    for run, curve in enumerate(([0.5, 0.7, 0.6], [0.4, 0.5, 0.52])):
        confirmation.apply(Proposed(trial=run, config={}))
        for epoch, accuracy in enumerate(curve, start=1):
            confirmation.apply(Report(trial=run, epoch=epoch, val_accuracy=accuracy))
        confirmation.apply(Finished(trial=run))
    assert confirmation.best_epoch_accuracies(candidate) == {11: 0.7, 12: 0.52}
    assert str(confirmation.best_and_last(candidate)).startswith("0.6100 / 0.5600 ± ")
    assert confirmation_record(confirmation)["candidates"][0]["validation_best_epoch"]["by_seed"] == {
        11: 0.7,
        12: 0.52,
    }


def test_each_seed_holds_out_the_next_fold_and_a_confirmation_of_an_earlier_version_none() -> None:
    confirmation = told({BEST: [*GOOD]})
    assert [confirmation.fold(seed) for seed in SEEDS] == [None, None, None]
    assert "over seeds, on the same images" in confirmation.about_intervals()
    confirmation.folds = 2
    assert [confirmation.fold(seed) for seed in SEEDS] == [0, 1, 0]
    assert "over seeds and images: each seed holds out another of 2 folds" in confirmation.about_intervals()


def test_there_is_no_winner_before_every_run_ended() -> None:
    assert told({BEST: [*GOOD], PLAIN: [0.4, 0.4]}).winner() is None


def test_a_candidate_eliminated_leaves_nothing_to_run_and_cannot_win() -> None:
    confirmation = told({BEST: [*GOOD], "trial 9": [0.9, 0.9], PLAIN: [*POOR]})
    assert confirmation.winner() is None
    confirmation.apply(Eliminated(rounds=2, candidates={"trial 9": "far behind"}))
    assert [candidate.name for candidate in confirmation.ranking()] == [BEST, PLAIN, "trial 9"]
    assert confirmation_record(confirmation)["winner"] == BEST


def test_where_a_run_of_every_candidate_failed_there_is_no_winner() -> None:
    confirmation = told({BEST: [0.6, None, 0.6], PLAIN: [0.4, None, 0.4]})
    assert confirmation.failure(confirmation.candidates[0]) == "failed on seed 12: val_loss is nan"
    assert confirmation.winner() is None


def test_test_results_of_another_winner_or_of_fewer_seeds_do_not_count() -> None:
    confirmation = with_test_results(told({BEST: [*BETTER], PLAIN: [*POOR]}), {BEST: [*GOOD], PLAIN: [*POOR]})
    assert confirmation.test_evaluation is not None
    confirmation.test_evaluations[-1]["seeds"] = {BEST: SEEDS[:2], PLAIN: SEEDS[:2]}
    assert confirmation.test_evaluation is None


def with_ablations(confirmation: Confirmation, **winner: float) -> Confirmation:
    """Returns the confirmation with configurations, two searched hyperparameters and ablations requested."""
    published = SHARED | {"mixup_alpha": 8.0, "burn_in": 10.0}
    values = {PUBLISHED: published, BEST: published | winner}
    confirmation.candidates = [replace(c, config=values.get(c.name, {})) for c in confirmation.candidates]
    searched = {"mixup_alpha": {"choices": [2.0, 8.0]}, "burn_in": {"choices": [5.0, 10.0]}}
    confirmation.runs.settings = SearchSettings(space=searched)
    confirmation.ablate = True
    return confirmation


def test_one_hyperparameter_is_set_back_at_a_time_and_none_that_agrees() -> None:
    accuracies: dict[str, list[float | None]] = {BEST: [*BETTER], PUBLISHED: [*GOOD]}
    both = with_ablations(told(accuracies), mixup_alpha=2.0, burn_in=5.0).ablations()
    assert [ablation.config for ablation in both] == [
        SHARED | {"mixup_alpha": 8.0, "burn_in": 5.0},
        SHARED | {"mixup_alpha": 2.0, "burn_in": 10.0},
    ]
    (one,) = with_ablations(told(accuracies), mixup_alpha=2.0).ablations()
    assert one.name == "trial 7, mixup_alpha 8"


def test_nothing_is_ablated_before_there_is_a_winner_nor_where_a_control_won() -> None:
    assert not with_ablations(told({BEST: [0.6, 0.6], PUBLISHED: [*GOOD]}), mixup_alpha=2.0).ablations()
    assert not with_ablations(told({BEST: [*POOR], PUBLISHED: [*GOOD]}), mixup_alpha=2.0).ablations()


def test_ablations_are_paired_with_the_winner_and_never_compete() -> None:
    confirmation = with_ablations(told({BEST: [*BETTER], PUBLISHED: [*GOOD]}), mixup_alpha=2.0)
    (ablation,) = confirmation.ablations()
    assert confirmation.planned() == 9
    for run, (seed, accuracy) in enumerate(zip(SEEDS[1:], (0.91, 0.93), strict=True), start=ABLATION_RUNS):
        confirmation.apply(Proposed(trial=run, config=ablation.config | {"seed": seed}))
        confirmation.apply(Report(trial=run, epoch=1, val_accuracy=accuracy))
        assert confirmation.is_complete
        confirmation.apply(Finished(trial=run))
    assert (confirmation.planned(), confirmation.has_ablations_left) == (9, True)
    record = confirmation_record(confirmation)
    assert record["winner"] == BEST
    assert record["ablations"][0]["validation"]["by_seed"] == {12: 0.91, 13: 0.93}
    assert record["ablations"][0]["difference"]["mean"] == pytest.approx(0.305)
    assert len(record["candidates"]) == 2


def test_the_mean_accuracy_on_clean_labels_is_known_where_the_noise_is() -> None:
    confirmation = told({BEST: [*BETTER], PLAIN: [*POOR]})
    settings = SearchSettings(noise=0.3, noise_kind="symmetric_exclusive")
    provenance = Provenance(dataset=DatasetFacts(validation_images=288, classes=10))
    confirmation.runs = replace(confirmation.runs, settings=settings, provenance=provenance)
    estimate = confirmation.clean_estimate(confirmation.candidates[0])
    assert estimate is not None
    assert estimate.accuracy == pytest.approx((0.61 - 0.3 / 9) / (0.7 - 0.3 / 9))
    confirmation.folds = 3  # on three times as many images
    sharper = confirmation.clean_estimate(confirmation.candidates[0])
    assert sharper is not None
    assert sharper.high - sharper.low == pytest.approx((estimate.high - estimate.low) / 3**0.5, rel=0.05)
    assert "30 % of the labels are wrong (as set)" in sharper.assumption


def test_the_best_with_mentormix_is_compared_with_the_plain_training_that_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirmation = told({PUBLISHED: [*POOR], PLAIN: [*BETTER], BEST: [*GOOD]})
    confirmation.candidates[:] = [replace(c, trial=number) for number, c in enumerate(confirmation.candidates)]
    monkeypatch.setattr(confirmation_summary, "read_confirmation", lambda experiment: confirmation)
    experiment = simulate_search(tmp_path, "birds", 4, epochs=6)
    first, second = (confirmed_best(experiment, with_mentor) for with_mentor in (False, True))
    assert first is not None
    assert second is not None
    assert (first[0].number, first[1]["is_winner"]) == (1, True)
    assert (second[0].number, second[1]["is_winner"]) == (2, False)
    said, *_, worse = second[1]["verdicts"]
    assert said == "The winner is plain training; the best with MentorMix is trial 7."
    assert worse.startswith("It is worse than plain training by 5.0 points")


def test_where_nothing_with_mentormix_ran_on_every_seed_none_is_the_best_with_it() -> None:
    confirmation = told({BEST: [0.6, None, 0.6], PLAIN: [*POOR]})
    winner = confirmation.winner()
    assert winner is not None
    assert winner.name == PLAIN
    assert confirmation.winner(with_mentor=True) is None
