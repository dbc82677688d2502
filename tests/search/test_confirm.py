"""Confirmations on a real local Ray: what is run, what survives an interruption, when the test set is used."""

import json
import signal
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.search.test_interruptions import reports, start, wait_for_reports
from tests.support.searches import SEEDS, TOP_K, SearchRunner, confirmation_of, copy_of, quiet
from trainables.data import load_dataset
from trainables.settings import TrialSettings
from trainables.training import begin_training
from tune_mentormix.cli.app import run
from tune_mentormix.cli.tables import print_confirmation
from tune_mentormix.errors import DONE, WRONG_REQUEST, RequestError
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.report.page import write_report
from tune_mentormix.results.confirmation import Confirmation
from tune_mentormix.results.confirmation_summary import confirmation_record
from tune_mentormix.results.evaluation_log import EVALUATION_LOG
from tune_mentormix.search.confirm import confirm_search
from tune_mentormix.storage.journal import read_events
from tune_mentormix.storage.yaml_files import read_yaml, write_yaml

pytestmark = pytest.mark.slow


def journal_of(confirmation: Confirmation, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(confirmation.runs.path / "journal.jsonl") if event["event"] == kind]


def test_every_candidate_is_trained_in_full_on_the_same_fresh_seeds(confirmed: Experiment) -> None:
    confirmation = confirmation_of(confirmed)
    assert {"published", "plain"} <= {candidate.name for candidate in confirmation.candidates}
    assert len(confirmation.seeds) == SEEDS
    assert confirmed.settings.seed not in confirmation.seeds
    for candidate in confirmation.candidates:
        runs = confirmation.runs_of(candidate)
        assert list(runs) == confirmation.seeds
        for seed, ran in runs.items():
            assert ran.config == candidate.config | {"seed": seed}
            assert (ran.state, list(ran.curve)) == ("finished", [1, 2, 3, 4])


def test_every_seed_holds_out_another_fold_which_all_candidates_share(confirmed: Experiment) -> None:
    confirmation = confirmation_of(confirmed)
    assert confirmation.folds == 5
    for number, seed in enumerate(confirmation.seeds):
        runs = [confirmation.runs_of(candidate)[seed] for candidate in confirmation.candidates]
        assert [run.fold for run in runs] == [number] * len(runs)


def test_a_confirmation_of_an_earlier_version_is_extended_without_rotating(
    confirmed: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = copy_of(confirmed, tmp_path)
    folder = storage / "done" / "confirmation"
    values = read_yaml(folder / "confirmation.yaml").values
    write_yaml(folder / "confirmation.yaml", {key: value for key, value in values.items() if key != "folds"})
    events = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    without = [{key: value for key, value in event.items() if key != "fold"} for event in events]
    (folder / "journal.jsonl").write_text("".join(json.dumps(event) + "\n" for event in without))
    assert confirmation_of(read_experiment(storage, "done")).folds == 1

    assert run(["confirm", "done", "--seeds", "3", "--storage", str(storage)]) == DONE
    assert "Validation intervals (95 %) are over seeds, on the same images." in capsys.readouterr().out
    extended = confirmation_of(read_experiment(storage, "done"))
    assert [event for event in journal_of(extended, "proposed") if "fold" in event] == []
    plain = next(candidate for candidate in extended.candidates if candidate.name == "plain")
    last = extended.runs_of(plain)[extended.seeds[2]]
    trainer = begin_training(TrialSettings(**last.config), load_dataset(confirmed.settings.data_settings()), 1)
    assert [trainer.train_epoch()["val_accuracy"] for _ in last.curve] == list(last.curve.values())


def test_the_test_set_is_used_once_after_the_last_run_ended(confirmed: Experiment) -> None:
    confirmation = confirmation_of(confirmed)
    (evaluation,) = confirmation.test_evaluations
    last_end = max(event["time"] for event in journal_of(confirmation, "finished"))
    assert datetime.fromisoformat(evaluation["opened"]).timestamp() >= int(last_end)
    assert set(evaluation["results"]) >= {evaluation["winner"], "published", "plain"}
    assert (evaluation["split"], evaluation["labels"]) == ("test", "clean")
    assert evaluation["trained_on"] == confirmed.provenance.dataset.fingerprint


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--top-k", "3"], "top_k must be 1, as this confirmation has, got 3 (--top-k)"),
        (["--seeds", "1"], "seeds must be a whole number of at least 2, got 1 (--seeds)"),
        (["--top-k", "0"], "top_k must be a whole number of at least 1, got 0 (--top-k)"),
        (["--cpus-per-trial", "-1"], "cpus_per_trial"),
    ],
)
def test_what_cannot_be_confirmed_is_one_line_on_stderr(
    confirmed: Experiment, capsys: pytest.CaptureFixture[str], options: list[str], complaint: str
) -> None:
    assert run(["confirm", "done", *options, "--storage", str(confirmed.path.parent)]) == WRONG_REQUEST
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert printed.err.count("\n") == 1


def test_a_search_in_which_no_trial_ran_to_the_end_has_nothing_to_confirm(
    finished_search: Experiment, tmp_path: Path
) -> None:
    storage = copy_of(finished_search, tmp_path)
    journal = storage / "done" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    first_end = next(number for number, line in enumerate(lines) if '"finished"' in line)
    journal.write_text("".join(lines[:first_end]))
    with pytest.raises(RequestError, match=r"nothing can be confirmed: see status done --storage"):
        confirm_search(storage, "done", None, None, {}, quiet)
    assert not (storage / "done" / "confirmation").exists()


def test_interrupted_and_resumed_it_ends_the_same_and_the_test_set_is_not_used_before(
    finished_search: Experiment, confirmed: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sent: list[int] = []

    def interrupt(confirmation: Confirmation) -> None:
        if confirmation.runs.epochs_run == 9 and not sent:
            sent.append(9)
            signal.raise_signal(signal.SIGINT)

    storage = copy_of(finished_search, tmp_path)
    cut = confirm_search(storage, "done", TOP_K, SEEDS, {}, interrupt)
    assert (cut.runs.ended, cut.runs.state(), cut.winner()) == ("interrupted", "interrupted", None)
    assert not (cut.runs.path / EVALUATION_LOG).exists()
    print_confirmation(cut, finished_search, as_json=False)
    assert "continue tune-mentormix confirm done --storage" in capsys.readouterr().out
    resumed = confirm_search(storage, "done", None, None, {}, quiet)
    whole = confirmation_of(confirmed)
    assert {n: t.curve for n, t in resumed.runs.trials.items()} == {n: t.curve for n, t in whole.runs.trials.items()}
    assert {t.fold for t in resumed.runs.trials.values()} == {0, 1}
    assert resumed.test_evaluations[-1]["results"] == whole.test_evaluations[-1]["results"]
    assert len(resumed.test_evaluations) == 1


def test_killed_in_the_middle_and_called_again_it_shows_the_same_table(
    finished_search: Experiment, confirmed: Experiment, tmp_path: Path
) -> None:
    storage = copy_of(finished_search, tmp_path)
    counts = ("--top-k", str(TOP_K), "--seeds", str(SEEDS))
    driver = start("confirm", "done", *counts, "--storage", str(storage))
    wait_for_reports(driver, storage / "done" / "confirmation" / "journal.jsonl", 6)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    cut, whole = confirmation_of(read_experiment(storage, "done")), confirmation_of(confirmed)
    assert (cut.runs.state(), cut.test_evaluations) == ("interrupted", [])
    assert cut.runs.epochs_run < whole.runs.epochs_run
    resumed = confirm_search(storage, "done", None, None, {}, quiet)
    assert confirmation_record(resumed)["candidates"] == confirmation_record(whole)["candidates"]
    assert {n: t.curve for n, t in resumed.runs.trials.items()} == {n: t.curve for n, t in whole.runs.trials.items()}
    assert len(resumed.test_evaluations) == 1


def test_more_seeds_extend_it_and_a_second_use_of_the_test_set_is_warned_of(
    confirmed: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = copy_of(confirmed, tmp_path)
    assert run(["confirm", "done", "--seeds", "3", "--storage", str(storage)]) == DONE
    assert "WARNING: The test set was used 2 times" in capsys.readouterr().err
    extended = confirmation_of(read_experiment(storage, "done"))
    first = confirmation_of(confirmed)
    assert extended.seeds[:SEEDS] == first.seeds
    assert len(journal_of(extended, "proposed")) == len(extended.candidates) * 3
    assert extended.test_evaluations[0] == first.test_evaluations[0]
    assert extended.test_evaluation is not None


def test_an_evaluation_on_the_test_set_that_was_interrupted_stays_on_record(
    confirmed: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = copy_of(confirmed, tmp_path)
    log = storage / "done" / "confirmation" / EVALUATION_LOG
    log.write_text(log.read_text().splitlines(keepends=True)[0])
    assert run(["confirm", "done", "--storage", str(storage)]) == DONE
    assert "used 2 times" in capsys.readouterr().err
    evaluations = confirmation_of(read_experiment(storage, "done")).test_evaluations
    assert ["results" in evaluation for evaluation in evaluations] == [False, True]


@pytest.mark.cluster
def test_ablations_of_the_winner_resume_after_a_kill_and_change_nothing_else(
    run_search: SearchRunner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    confirm = ["confirm", "fast", "--storage", str(tmp_path)]
    space = {"batch_size": {"choices": [16]}, "mixup_alpha": {"choices": [3.0]}}  # more steps than the controls
    run_search(tmp_path, name="fast", space=space, num_samples=4, scheduler="none")
    assert run([*confirm, "--top-k", "1", "--seeds", "2", "--json"]) == DONE
    before = json.loads(capsys.readouterr().out)
    winner, candidates = before["winner"], len(before["candidates"])
    assert winner.startswith("trial")
    assert "ablations" not in before

    journal = tmp_path / "fast" / "confirmation" / "journal.jsonl"
    driver = start(*confirm, "--ablate")
    wait_for_reports(driver, journal, reports(journal) + 6)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    cut = confirmation_of(read_experiment(tmp_path, "fast"))
    assert (cut.runs.state(), cut.is_complete, cut.has_ablations_left) == ("interrupted", True, True)

    assert run([*confirm, "--json"]) == DONE
    after = json.loads(capsys.readouterr().out)
    ablations = {row["hyperparameter"]: row for row in after.pop("ablations")}
    assert after == before
    assert set(ablations) == {"batch_size", "mixup_alpha"}
    assert (ablations["batch_size"]["winner"], ablations["batch_size"]["published"]) == (16, 128)
    assert ablations["batch_size"]["difference"]["mean"] < 0
    assert {row["difference"]["n"] for row in ablations.values()} == {2}
    confirmation = confirmation_of(read_experiment(tmp_path, "fast"))
    assert sorted(confirmation.runs.trials) == [*range(2 * candidates), *range(10_000, 10_004)]

    assert run(confirm) == DONE
    assert f"{winner}, batch_size 128" in capsys.readouterr().out
    page = write_report(read_experiment(tmp_path, "fast"), tmp_path / "report.html").read_text()
    assert "set back to its published value" in page


def test_a_hopeless_candidate_gets_no_more_seeds_and_controls_get_all(
    run_search: SearchRunner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hardly_learning = {"learning_rate": {"choices": [1e-6]}}  # the controls keep the default
    run_search(tmp_path, name="mixed", space=hardly_learning, num_samples=4, epochs=12, scheduler="none")
    assert run(["confirm", "mixed", "--top-k", "2", "--seeds", "4", "--storage", str(tmp_path)]) == DONE
    printed = capsys.readouterr().out
    confirmation = confirmation_of(read_experiment(tmp_path, "mixed"))
    hopeless = [c for c in confirmation.candidates if c.config["learning_rate"] == 1e-6]
    assert hopeless
    for candidate in confirmation.candidates:
        assert len(confirmation.runs_of(candidate)) == (3 if candidate in hopeless else 4)
        assert (f"{candidate.name} was eliminated" in printed) == (candidate in hopeless)
    (event,) = journal_of(confirmation, "ruled_out")
    assert event["rounds"] == 3
    assert confirmation.winner() not in [*hopeless, None]
    assert run(["confirm", "mixed", "--ablate", "--storage", str(tmp_path)]) == DONE
    assert "there is nothing to ablate." in capsys.readouterr().out
