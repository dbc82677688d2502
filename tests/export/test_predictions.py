"""The labels of a search: out of fold after a confirmation, else by one pass; by exported weights; and the loop."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from tests.support.searches import confirmation_of, copy_of, folder_of
from trainables.data import load_dataset
from trainables.data.streaming import in_memory
from trainables.inference import final_accuracy, load_classifier
from tune_mentormix.cli.app import run
from tune_mentormix.errors import DONE, RequestError
from tune_mentormix.experiment.checkpoints import example_weights, validation_probabilities
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.export.manifest import MODEL_FILE
from tune_mentormix.export.predictions import suspicious_labels
from tune_mentormix.export.read import read_folder
from tune_mentormix.export.write import export_best
from tune_mentormix.results.candidates import Candidate
from tune_mentormix.results.confirmation import Confirmation
from tune_mentormix.results.label_quality import label_scores
from tune_mentormix.results.suspicious_labels import LabelTable, images_of

pytestmark = pytest.mark.slow

Output = pytest.CaptureFixture[str]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def accuracy_out_of_fold(table: LabelTable) -> float:
    """How often the suggested class is the label, among the images scored out of fold."""
    return float((table.suggested == table.given)[table.out_of_fold].mean())


def expected_scores(confirmation: Confirmation, winner: Candidate, table: LabelTable) -> NDArray[np.float32]:
    """By the probabilities, and by how much the mentor let an image count in the winner's runs."""
    weights: dict[int, list[float]] = {}
    for run_of_winner in confirmation.runs_of(winner).values():
        found = example_weights(confirmation.runs, run_of_winner)
        if found is not None:
            for position, weight in zip(table.images.trained_on(run_of_winner), found, strict=True):
                if np.isfinite(weight):
                    weights.setdefault(int(position), []).append(float(weight))
    means = [np.mean(weights[position]) if position in weights else np.nan for position in table.positions]
    return label_scores(table.given, table.probabilities, np.array(means))


def test_after_a_confirmation_images_are_scored_by_the_runs_that_held_them_out(confirmed: Experiment) -> None:
    confirmation, images = confirmation_of(confirmed), images_of(confirmed)
    winner = confirmation.winner()
    assert winner is not None

    table = suspicious_labels(confirmed)

    assert sorted(table.names, key=int) == sorted(images.names, key=int)
    held_out = {}
    for run_of_winner in confirmation.runs_of(winner).values():
        probabilities = validation_probabilities(confirmation.runs, run_of_winner)
        assert probabilities is not None
        for position, row in zip(images.held_out(run_of_winner), probabilities, strict=True):
            held_out[images.names[position]] = row
    assert len(held_out) == 2 * 60  # two seeds held out two of five folds
    for name, row, out_of_fold in zip(table.names, table.probabilities, table.out_of_fold, strict=True):
        assert out_of_fold == (name in held_out)
        if out_of_fold:
            np.testing.assert_array_equal(row, held_out[name])
    assert table.scores == pytest.approx(expected_scores(confirmation, winner, table), abs=1e-3)
    accuracies = confirmation.accuracies(winner).values()
    assert accuracy_out_of_fold(table) == pytest.approx(sum(accuracies) / len(accuracies))


def test_without_a_confirmation_the_best_trial_scores_its_validation_images_out_of_fold(
    finished_search: Experiment,
) -> None:
    best, dataset = finished_search.best(), load_dataset(finished_search.settings.data_settings())
    assert best is not None

    table = suspicious_labels(finished_search)

    assert len(table.names) == 300
    assert sorted(table.positions[table.out_of_fold]) == list(range(240, 300))
    assert accuracy_out_of_fold(table) == pytest.approx(best.val_accuracy)
    checkpoint = str(folder_of(finished_search) / best.checkpoints[-1][1])
    in_sample = final_accuracy(best.config, dataset, checkpoint, dataset.train_images, dataset.train_labels, 1)
    assert (table.suggested == table.given)[~table.out_of_fold].mean() == pytest.approx(in_sample)


def test_exported_weights_score_what_they_were_not_trained_on_out_of_fold(
    finished_search: Experiment, tmp_path: Path
) -> None:
    export_best(finished_search, tmp_path / "best")
    exported = read_folder(tmp_path / "best")
    images = images_of(finished_search)

    table = suspicious_labels(exported)

    assert sorted(table.positions[table.out_of_fold]) == list(range(240, 300))
    classifier = load_classifier(tmp_path / "best" / MODEL_FILE, 1)
    expected = classifier.classify(np.concatenate([in_memory(part) for part in images.parts]))
    np.testing.assert_allclose(table.probabilities, expected[table.positions], atol=1e-6)
    on_all = replace(exported, model=exported.model.model_copy(update={"trained_on": "all images"}))
    assert not suspicious_labels(on_all).out_of_fold.any()


def test_wrong_labels_are_more_suspicious_than_right_ones(confirmed: Experiment) -> None:
    table, images = suspicious_labels(confirmed), images_of(confirmed)
    assert images.clean is not None
    is_wrong = images.given != images.clean

    assert 0.3 < is_wrong.mean() < 0.5
    assert roc_auc_score(is_wrong[table.positions], table.scores) > 0.55  # four epochs on 240 images


def test_the_command_writes_what_it_is_asked_for_and_nothing_else(
    confirmed: Experiment, tmp_path: Path, capsys: Output
) -> None:
    storage, out = copy_of(confirmed, tmp_path), tmp_path / "out"
    before = sorted(path for path in storage.rglob("*") if path.is_file())
    files = {"--out": out / "labels.csv", "--write": out / "corrected.csv", "--pred-probs": out / "probabilities.npy"}
    words = [word for name, path in files.items() for word in (name, str(path))]

    assert run(["labels", "done", "--storage", str(storage), *words, "--worst", "20"]) == DONE

    output = capsys.readouterr()
    assert "300 labels scored by 2 confirmation runs of " in output.out
    assert "120 of them out of fold" in output.out
    assert "180 labels are scored by networks that were trained on them" in output.err.replace("\n", " ")
    assert sorted(path for path in storage.rglob("*") if path.is_file() and out not in path.parents) == before
    assert sorted(out.iterdir()) == sorted(files.values())
    rows, corrected = read(files["--out"]), read(files["--write"])
    assert [row["image"] for row in corrected] == [row["image"] for row in rows]
    assert [row["label"] for row in corrected] == [
        row["suggested"] if rank < 20 else row["given"] for rank, row in enumerate(rows)
    ]
    assert np.load(files["--pred-probs"], allow_pickle=False).shape == (300, 10)


def test_a_search_without_a_finished_trial_is_refused(finished_search: Experiment, tmp_path: Path) -> None:
    storage = copy_of(finished_search, tmp_path)
    journal = storage / "done" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    unfinished = [line for line in lines if json.loads(line)["event"] not in ("finished", "stopped", "failed")]
    journal.write_text("".join(unfinished))

    with pytest.raises(RequestError, match="done has no trial that ran to the end yet"):
        suspicious_labels(read_experiment(storage, "done"))
