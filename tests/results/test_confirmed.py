"""Tests what is read from a complete confirmation: the answer, the test set, the export, the report."""

import json
from pathlib import Path

import pytest

from tests.support.searches import SEEDS, confirmation_of, copy_of
from trainables.data import load_dataset, load_test_split
from trainables.inference import final_accuracy
from tune_mentormix.cli.app import run
from tune_mentormix.errors import DONE
from tune_mentormix.experiment.checkpoints import newest_checkpoint
from tune_mentormix.experiment.create import stored_settings
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.export.read import read_exported
from tune_mentormix.export.write import export_best
from tune_mentormix.report.page import write_report
from tune_mentormix.storage.journal import JOURNAL_FILE, read_events
from tune_mentormix.storage.yaml_files import read_yaml

pytestmark = pytest.mark.slow


def test_confirming_again_reads_what_is_there_and_does_not_use_the_test_set(
    confirmed: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in (confirmed.path / "confirmation").iterdir() if path.is_file()}
    assert run(["confirm", "done", "--storage", str(confirmed.path.parent)]) == DONE
    printed = capsys.readouterr()
    assert "The winner is" in printed.out
    assert "noisy labels" in printed.out
    assert "test, clean labels" in printed.out
    assert "WARNING" not in printed.err
    after = {path.name: path.read_bytes() for path in (confirmed.path / "confirmation").iterdir() if path.is_file()}
    assert after == before


def test_json_is_one_document_with_the_answer(confirmed: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["confirm", "done", "--json", "--storage", str(confirmed.path.parent)]) == DONE
    document = json.loads(capsys.readouterr().out)
    assert {(gain["over"], gain["split"]) for gain in document["gains"]} >= {
        ("plain", "test"),
        ("plain", "validation"),
    }
    assert document["winner"] in {candidate["name"] for candidate in document["candidates"]}


def test_what_is_exported_is_the_winner_with_what_was_confirmed_of_it(confirmed: Experiment, tmp_path: Path) -> None:
    confirmation = confirmation_of(confirmed)
    winner = confirmation.winner()
    assert winner is not None
    folder = export_best(confirmed, tmp_path / "best").folder
    written = read_yaml(folder / "best_config.yaml").values
    assert (written["trial"], written["config"]) == (winner.trial, winner.config)
    measured = {(entry["split"], entry["labels"], entry["n"]) for entry in written["confirmation"]["accuracies"]}
    assert measured == {("validation", "noisy", SEEDS), ("test", "clean", SEEDS)}
    assert read_exported(folder).config.model_dump() == winner.config
    assert "The winner is" in (folder / "model_card.md").read_text()


def test_a_winner_that_the_search_did_not_train_to_the_end_is_exported_as_unfinished(
    confirmed: Experiment, tmp_path: Path
) -> None:
    winner = confirmation_of(confirmed).winner()
    assert winner is not None
    storage = copy_of(confirmed, tmp_path)
    journal = storage / "done" / JOURNAL_FILE
    ended = {"event": "failed", "trial": winner.trial, "time": 0.0, "error": "out of memory"}
    lines = [
        json.dumps(ended) if (event["event"], event.get("trial")) == ("finished", winner.trial) else json.dumps(event)
        for event in read_events(journal)
    ]
    journal.write_text("\n".join(lines) + "\n")
    folder = export_best(read_experiment(storage, "done"), tmp_path / "best").folder
    written = read_yaml(folder / "best_config.yaml").values
    assert (written["trial"], written["trial_state"]) == (winner.trial, "failed")
    card = (folder / "model_card.md").read_text()
    assert "**Unfinished: this trial had run" in card
    assert "The winner is" in card


def test_the_report_shows_the_confirmation(confirmed: Experiment, tmp_path: Path) -> None:
    page = write_report(confirmed, tmp_path / "report.html").read_text()
    assert f"Confirmation on {SEEDS} fresh seeds" in page
    assert "The winner is" in page


def test_the_winner_has_the_best_mean_on_validation(confirmed: Experiment) -> None:
    confirmation = confirmation_of(confirmed)
    winner = confirmation.winner()
    assert winner is not None
    means = {c.name: sum(confirmation.accuracies(c).values()) for c in confirmation.candidates}
    assert means[winner.name] == max(means.values())


def test_the_recorded_accuracies_are_those_of_the_final_checkpoints(confirmed: Experiment) -> None:
    confirmation = confirmation_of(confirmed)
    settings = stored_settings(confirmed).data_settings()
    plain = next(c for c in confirmation.candidates if c.name == "plain")
    for seed, ran in confirmation.runs_of(plain).items():
        checkpoint = newest_checkpoint(confirmation.runs, ran)
        data = load_dataset(settings)
        fold = ran.fold
        assert fold is not None
        measured = final_accuracy(ran.config, data, checkpoint, *load_test_split(settings), threads=1, fold=fold)
        assert confirmation.test_accuracies(plain)[seed] == measured
        trained_again = final_accuracy(ran.config, data, None, *load_test_split(settings), threads=1, fold=fold)
        assert trained_again == measured
