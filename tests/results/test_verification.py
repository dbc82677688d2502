"""Verification: a few right labels find the best candidate where noisy ones mislead, and the estimate is unbiased."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.verifiable_search import MISLED, NETWORKS, RIGHT, Network, made_up_search, right_labels
from trainables.files import MANIFEST_FILE
from trainables.verify_csv import CANNOT_TELL
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.experiment.schemas import NoiseEstimate
from tune_mentormix.results.cleanup import remove_old_checkpoints
from tune_mentormix.results.comparison import compare, result_rows
from tune_mentormix.results.summary import search_status, summarize
from tune_mentormix.results.verification import Evidence, Sample, draw_order, mean_interval, unbiased_totals
from tune_mentormix.results.verification_pool import VerificationPool, current_pool, load_experiment_data, newest_pool
from tune_mentormix.results.verification_summary import (
    Verification,
    about_verification,
    read_verification,
    verified_choice,
)
from tune_mentormix.results.verified_labels import record_answers
from tune_mentormix.storage.journal import JOURNAL_FILE, Journal

NONE = np.empty(0, np.int64)


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A search whose best on noisy labels is not the best; nobody answers there."""
    return made_up_search(tmp_path_factory.mktemp("made-up"))


@pytest.fixture
def experiment(made_up: Experiment, tmp_path: Path) -> Experiment:
    """The same, to write into."""
    assert isinstance(made_up.path, Path)
    shutil.copytree(made_up.path, tmp_path / made_up.name, ignore=shutil.ignore_patterns("verification"))
    return read_experiment(tmp_path, made_up.name)


def pool_of(experiment: Experiment) -> VerificationPool:
    """The pool of the candidates as they are."""
    return current_pool(experiment, *load_experiment_data(experiment))


def verify(experiment: Experiment, count: int, by: str = "ann") -> Verification:
    """Answers the first images as a person who is always right."""
    pool, right = pool_of(experiment), right_labels(experiment)
    record_answers(experiment.path, {pool.images[p]: right[pool.images[p]] for p in pool.order[:count]}, by)
    verification = read_verification(experiment)
    assert verification is not None
    return verification


def test_the_estimate_is_unbiased_and_its_interval_covers(made_up: Experiment) -> None:
    pool, right = pool_of(made_up), right_labels(made_up)
    labels = np.array([int(right[image]) for image in pool.images])
    evidence, everything = pool.evidence, np.arange(len(labels))
    truth = evidence.is_right(everything, labels).mean(axis=1)
    means, covered = [], []
    for seed in range(300):
        order, sizes = draw_order(evidence.disagreement(), np.ones(len(labels), bool), seed)
        drawn = order[:30]
        estimates = Sample(drawn, labels[drawn], NONE, NONE, sizes, NONE).accuracies(evidence)
        means.append(estimates.mean(axis=1))
        intervals = [mean_interval(each) for each in estimates]
        covered.append(
            [i.low <= t <= i.high for i, t in zip(intervals, truth, strict=True) if i and i.low and i.high]
        )
    error = np.std(means, axis=0) / np.sqrt(300)

    assert np.abs(np.mean(means, axis=0) - truth).max() < 4 * error.max()
    assert error.max() < 0.005
    assert 0.9 <= np.mean(covered) <= 0.99


def test_the_estimate_of_images_known_before_and_of_all_others_is_exact_once_all_are_verified() -> None:
    generator = np.random.default_rng(0)
    values, sizes = generator.random(40), generator.random(40)
    order = generator.permutation(40)

    totals = unbiased_totals(values[order], sizes[order], sizes.sum())

    assert totals[-1] == pytest.approx(values.sum())


def test_images_on_which_the_candidates_disagree_come_first_and_none_is_left_out(made_up: Experiment) -> None:
    pool = pool_of(made_up)
    disagreement = pool.evidence.disagreement()

    assert sorted(pool.order.tolist()) == list(range(len(pool.images)))
    assert disagreement[pool.order[:40]].mean() > 1.3 * disagreement.mean()
    assert (pool.sizes > 0).all()
    assert pool.sizes.sum() == pytest.approx(1)


def test_a_few_answers_find_the_best_where_noisy_labels_mislead(experiment: Experiment) -> None:
    best = experiment.best()
    assert best is not None
    assert best.number == MISLED

    verification = verify(experiment, 30)

    choice = verified_choice(experiment)
    assert choice is not None
    assert choice[0].number == RIGHT
    assert verification.count == 30
    estimate = verification.estimate_of(RIGHT)
    assert estimate is not None
    assert estimate.low <= NETWORKS[RIGHT].true <= estimate.high
    assert estimate.high - estimate.low < 0.25
    said = " ".join(about_verification(verification))
    assert f"30 verified labels choose trial {RIGHT}, right in" in said
    assert f"trial {MISLED}, the best on noisy labels" in said
    assert f"it is the same after {verification.unchanged_since} of 30 answers" in said


def test_without_answers_the_choice_is_left_to_the_noisy_labels(experiment: Experiment) -> None:
    assert read_verification(experiment) is None
    pool_of(experiment)

    assert verified_choice(experiment) is None


def test_a_decision_stands_once_half_of_the_answers_left_it_as_it_was(experiment: Experiment) -> None:
    assert not verify(experiment, 19).stands

    verification = verify(experiment, 60)

    assert verification.unchanged_since < 30
    assert verification.stands


def test_images_that_nobody_can_tell_do_not_count(experiment: Experiment) -> None:
    pool, right = pool_of(experiment), right_labels(experiment)
    images = [pool.images[p] for p in pool.order[:20]]
    record_answers(experiment.path, {image: right[image] for image in images[5:]}, "ann")
    record_answers(experiment.path, dict.fromkeys(images[:5], CANNOT_TELL), "ann")

    verification = read_verification(experiment)

    assert verification is not None
    assert verification.count == 15
    assert "15 verified labels, besides 5 that nobody can tell" in about_verification(verification)[0]


def test_the_same_candidates_are_drawn_in_the_same_order_again(experiment: Experiment) -> None:
    pool = pool_of(experiment)
    verify(experiment, 10)

    again = pool_of(experiment)

    assert again.order.tolist() == pool.order.tolist()
    assert newest_pool(experiment.path) is not None
    assert len(list((experiment.path / "verification").glob("pool-*"))) == 1  # type: ignore[union-attr]


def test_answers_count_for_the_candidates_of_a_search_that_was_extended(experiment: Experiment) -> None:
    before = verify(experiment, 40)
    assert isinstance(experiment.path, Path)
    extended = made_up_search(experiment.path.parent / "more", "misled", NETWORKS | {4: Network(0.99, 0.0)})
    assert isinstance(extended.path, Path)
    shutil.copytree(experiment.path / "verification", extended.path / "verification")
    pool = pool_of(extended)

    verification = read_verification(extended)

    assert verification is not None
    assert len(pool.candidates) == 5
    assert verification.count == before.count == 40
    assert set(pool.order.tolist()).isdisjoint(np.flatnonzero(pool.sizes == 0).tolist())
    assert len(pool.order) == len(pool.images) - 40
    assert verified_choice(extended) is not None


def test_labels_that_follow_the_mistakes_of_the_networks_lose_their_weight() -> None:
    generator = np.random.default_rng(0)
    true = generator.integers(0, 5, 300)
    wrong = (true + 1) % 5
    given = np.where(generator.random(300) < 0.6, wrong, true)  # most labels are those of the next class

    def network(accuracy: float) -> NDArray[np.int64]:
        return np.where(generator.random(300) < accuracy, true, given)

    answers = np.stack([network(accuracy) for accuracy in (0.2, 0.5, 0.8)])[:, None, :]
    probabilities = np.stack([0.1 / 5 + 0.9 * np.eye(5)[each[0]] for each in answers])
    evidence = Evidence(probabilities.astype(np.float16), answers.astype(np.int16), given)
    assert evidence.ranking(evidence.first_beliefs)[0] == 0

    seen = np.flatnonzero(evidence.disagreement() > 0)[:30]

    assert evidence.ranking(evidence.beliefs(seen, true[seen]))[0] == 2


def test_a_search_with_one_candidate_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    experiment = made_up_search(tmp_path, networks={0: Network(0.9, 0.0)})

    with pytest.raises(RequestError, match="1 candidates with predictions, and two are needed"):
        pool_of(experiment)


def test_a_damaged_pool_is_reported_in_one_line(experiment: Experiment) -> None:
    pool_of(experiment)
    (path,) = (experiment.path / "verification").glob("pool-*")  # type: ignore[union-attr]
    path.write_bytes(path.read_bytes()[:-40])

    with pytest.raises(RequestError, match="is damaged: move it away"):
        read_verification(experiment)


def test_verdict_status_and_comparison_rest_on_the_verified_labels(experiment: Experiment) -> None:
    assert summarize(experiment).compared[0].trial.number == MISLED

    verification = verify(experiment, 60)

    finding = summarize(experiment)
    assert finding.is_gain
    assert finding.headline.startswith("A gain on verified labels: ")
    assert [row.title for row in finding.compared] == [
        "chosen by verified labels",
        "best on noisy labels",
        "published setting for 40 % noise",
        "plain training",
    ]
    assert "The decision stands" in finding.explanation
    assert (
        finding.clean_note == "On clean labels: an unbiased estimate from 60 verified labels, with a 95 % interval."
    )
    status = search_status(experiment)
    assert status.best is not None
    assert status.best.trial_id == RIGHT
    assert status.best.clean_estimate == verification.estimate_of(RIGHT)
    assert status.clean_estimates["plain"] == verification.estimate_of(1)
    assert status.verdict is not None
    assert status.verdict.is_gain
    assert status.verdict.lead is not None
    assert status.verdict.lead > 0.1
    assert f"(trial {RIGHT})" in dict(result_rows(compare([experiment, experiment])))["at epoch"][0]


def test_a_clean_up_keeps_the_checkpoint_of_the_trial_that_verified_labels_choose(tmp_path: Path) -> None:
    networks = {n: Network(0.3, 0.6) for n in range(2, 12)} | {12: Network(0.97, 0.0)}
    networks |= {n: Network(0.5, 0.6) for n in range(13, 20)}
    experiment = made_up_search(tmp_path, networks=networks)
    verify(experiment, 60)
    choice = verified_choice(experiment)
    assert choice is not None
    assert choice[0].number == 12

    remove_old_checkpoints(tmp_path, experiment.name)

    left = {path.parts[-3] for path in (tmp_path / experiment.name).rglob(MANIFEST_FILE)}
    assert "trial-12" in left
    assert len(left) < len(networks)


def test_a_misleading_search_names_verify(experiment: Experiment) -> None:
    journal = Journal(experiment.path / JOURNAL_FILE)
    noise = NoiseEstimate(images=200, rate=0.4, concentration=0.9, is_symmetric=False, transition=None)
    for trial in (MISLED, RIGHT):
        journal.append("noise_estimated", trial=trial, epoch=4, noise=noise.model_dump())
    journal.close()

    explanation = summarize(read_experiment(experiment.path.parent, experiment.name)).explanation

    assert "A few labels that you verify decide: verify misled (docs/verify.md)." in explanation
