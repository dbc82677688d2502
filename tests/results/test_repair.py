from pathlib import Path

import pytest

from tests.support.searches import copy_of
from tune_mentormix.cli.app import run
from tune_mentormix.errors import DONE, WRONG_REQUEST, RequestError
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.results.repair import repair_experiment
from tune_mentormix.storage.lease import Lease


def damage(journal: Path, marker: str, replacement: str) -> int:
    """Replaces the first line that holds a text, and returns its number."""
    lines = journal.read_text().splitlines()
    number = next(number for number, line in enumerate(lines) if marker in line)
    lines[number] = replacement
    journal.write_text("\n".join(lines) + "\n")
    return number + 1


def test_a_damaged_line_is_named_then_cut_out_and_the_rest_is_read_as_before(
    finished_search: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage, name = copy_of(finished_search, tmp_path), finished_search.name
    journal = storage / name / "journal.jsonl"
    line = damage(journal, '"event":"report"', '{"time":1.0,"event":"report","trial":0,"epoch":1,"val_accuracy":7.5}')
    damaged = journal.read_bytes()
    assert run(["status", name, "--storage", str(storage)]) == WRONG_REQUEST
    complaint = capsys.readouterr().err
    assert f"line {line} is not a journal event: val_accuracy must be a number in [0, 1], got 7.5" in complaint
    advice = complaint.split("`")[1]
    assert advice == f"repair {name} --storage {storage}"

    assert run(advice.split()) == DONE
    assert f"line {line}: val_accuracy must be" in capsys.readouterr().out
    repaired = read_experiment(storage, name)
    assert repaired.epochs_run == finished_search.epochs_run - 1
    assert repaired.counts() == finished_search.counts()
    assert [copy.read_bytes() for copy in journal.parent.glob("journal.damaged-*.jsonl")] == [damaged]
    assert repair_experiment(storage, name) == []


def test_a_trial_whose_proposal_is_lost_goes_and_no_number_is_used_twice(
    finished_search: Experiment, tmp_path: Path
) -> None:
    storage, name = copy_of(finished_search, tmp_path), finished_search.name
    damage(storage / name / "journal.jsonl", '"event":"proposed"', "\0\0\0")
    (repair,) = repair_experiment(storage, name)
    assert all("trial 0 was never proposed" in lost for lost in repair.lost[1:])
    repaired = read_experiment(storage, name)
    assert set(repaired.trials) == set(finished_search.trials) - {0}
    assert repaired.runs == finished_search.runs


def test_a_search_that_runs_is_not_repaired(finished_search: Experiment, tmp_path: Path) -> None:
    storage = copy_of(finished_search, tmp_path)
    with (
        Lease(storage / finished_search.name).acquire(),
        pytest.raises(RequestError, match="is running already"),
    ):
        repair_experiment(storage, finished_search.name)
