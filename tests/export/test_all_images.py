"""Weights that saw every label: trained without a validation split, and labelled so wherever they go."""

import json
from pathlib import Path

import pytest

from trainables.data import load_dataset
from trainables.model_file import read_model
from tune_mentormix.cli.app import run
from tune_mentormix.errors import DONE, WRONG_REQUEST
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.export.manifest import PROVENANCE_FILE, read_provenance
from tune_mentormix.export.read import read_exported
from tune_mentormix.export.train import train_in_full
from tune_mentormix.export.write import export_best

Output = pytest.CaptureFixture[str]


def ignore(_report: dict[str, float], _epochs: int) -> None:
    """Shows no progress."""


@pytest.fixture(scope="module")
def refitted(finished_search: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A refit export that tests do not change."""
    return export_best(finished_search, tmp_path_factory.mktemp("refit") / "best", refit=ignore).folder


def test_a_refit_is_what_train_all_images_makes_of_the_same_configuration(
    refitted: Path, tmp_path: Path, capsys: Output
) -> None:
    trained = tmp_path / "trained"
    assert run(["train", str(refitted), "--all-images", "--out", str(trained)]) == DONE
    assert "no validation accuracy exists for these weights" in capsys.readouterr().out
    assert (trained / "model.safetensors").read_bytes() == (refitted / "model.safetensors").read_bytes()
    assert "val_accuracy" not in json.loads((trained / "metrics.json").read_text())

    facts = json.loads((trained / PROVENANCE_FILE).read_text())
    dataset = load_dataset(read_exported(refitted).data)
    assert facts["dataset"]["train_images"] == len(dataset.train_images) + len(dataset.validation_images)
    assert facts["dataset"]["validation_images"] == 0
    assert {record["metric"] for record in facts["metrics"]}.isdisjoint({"val_accuracy", "val_loss"})


def test_its_weights_are_others_than_those_of_the_training_split_after_as_many_epochs(
    refitted: Path, finished_search: Experiment, tmp_path: Path
) -> None:
    split = export_best(finished_search, tmp_path / "best").folder
    one, other = (read_model(folder / "model.safetensors") for folder in (split, refitted))
    assert one.description == other.description
    assert any(not weight.equal(other.weights[name]) for name, weight in one.weights.items())


def test_the_folder_says_what_its_weights_were_trained_on(refitted: Path, finished_search: Experiment) -> None:
    model = read_provenance(refitted).model
    assert model is not None
    assert (model.trained_on, model.val_accuracy) == ("all images", None)
    facts = finished_search.provenance.dataset
    card = (refitted / "model_card.md").read_text()
    assert f"on all {facts.train_images + facts.validation_images} images" in card
    assert "No validation accuracy exists for these weights" in card
    assert "cmp model.safetensors" in (refitted / "reproduce.sh").read_text()
    assert not list(refitted.glob(".refit*"))


def test_only_the_test_set_can_measure_it(refitted: Path, capsys: Output) -> None:
    assert run(["evaluate", str(refitted)]) == WRONG_REQUEST
    printed = capsys.readouterr()
    assert "no validation accuracy exists for them; --split test measures them" in printed.err
    assert printed.err.count("\n") == 1
    assert run(["evaluate", str(refitted), "--split", "test", "--json"]) == DONE
    document = json.loads(capsys.readouterr().out)
    assert (document["split"], document["labels"], document["recorded_accuracy"]) == ("test", "clean", None)


def test_a_refit_interrupted_resumes_and_ends_in_the_same_weights(
    refitted: Path, finished_search: Experiment, tmp_path: Path
) -> None:
    def interrupt(report: dict[str, float], _epochs: int) -> None:
        if report["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_best(finished_search, tmp_path / "cut", refit=interrupt)
    seen: list[float] = []
    export_best(finished_search, tmp_path / "cut", refit=lambda report, _: seen.append(report["epoch"]))
    assert seen == [3, 4]
    assert (tmp_path / "cut" / "model.safetensors").read_bytes() == (refitted / "model.safetensors").read_bytes()


def test_a_training_on_all_images_is_another_than_one_on_the_split(refitted: Path, tmp_path: Path) -> None:
    exported = read_exported(refitted)
    train_in_full(exported, tmp_path / "out", None, ignore, all_images=True)
    assert run(["train", str(refitted), "--out", str(tmp_path / "out")]) == WRONG_REQUEST


def test_a_refit_has_no_best_epoch(finished_search: Experiment, tmp_path: Path, capsys: Output) -> None:
    storage = ["--storage", str(finished_search.path.parent)]
    out = ["--out", str(tmp_path / "best")]
    assert run(["export", "done", *out, "--refit", "--weights", "best", *storage]) == WRONG_REQUEST
    assert "--refit trains without validation images, so no epoch is the best" in capsys.readouterr().err
    assert run(["export", "done", *out, "--refit", *storage]) == DONE
    assert "trained on all images: no validation accuracy exists for them" in capsys.readouterr().out


def test_a_search_without_validation_images_is_refused_with_what_to_do_instead(capsys: Output) -> None:
    assert run(["search", "--validation-fraction", "0"]) == WRONG_REQUEST
    printed = capsys.readouterr().err
    assert "validation_fraction: must be above 0" in printed
    assert "export --refit, train --all-images (--validation-fraction)" in printed
    assert printed.count("\n") == 1
