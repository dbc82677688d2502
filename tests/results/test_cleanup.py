"""What `gc` shows and removes, of experiments written event by event."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.object_store import ObjectStore
from tune_mentormix.cli.app import run
from tune_mentormix.experiment.experiment import SEARCH_FILE
from tune_mentormix.storage.journal import JOURNAL_FILE, Journal
from tune_mentormix.storage.lease import Lease
from tune_mentormix.storage.listing import sizes_below
from tune_mentormix.storage.paths import Location, RemotePath, remove_folder
from tune_mentormix.storage.yaml_files import write_yaml

REPOSITORY = Path(__file__).parents[2]
CHECKPOINT_BYTES = 10_000
CONTROLS = {0: "published", 1: "mixup", 2: "plain"}
ENDED = dict.fromkeys(range(10), "finished") | {9: "stopped", 10: "failed"}
KEPT = {0, 1, 2, 4, 5, 6, 7, 8}  # the controls, and the five best: 8 is the very best


def write_experiment(path: Location, ends: dict[int, str], trials: int = 11, **settings: Any) -> None:
    """Trials with two checkpoints each, the later ones the better; those that have no end were interrupted."""
    path.mkdir(parents=True)
    write_yaml(path / SEARCH_FILE, {"format": 1, "num_samples": trials, "scheduler": "asha", **settings})
    write_journal(path, ends, trials)


def write_journal(path: Location, ends: dict[int, str], trials: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    journal = Journal(path / JOURNAL_FILE)
    journal.append("run_started", run=1, num_samples=trials, rungs=[1])
    for trial in range(trials):
        journal.append("proposed", trial=trial, config={"mixup_alpha": float(trial)}, control=CONTROLS.get(trial))
        for epoch in (1, 2):
            journal.append("report", trial=trial, epoch=epoch, val_accuracy=0.1 + 0.05 * trial)
            place = f"runs/1/trial-{trial:04d}/checkpoint_{epoch:06d}"
            journal.append("checkpoint", trial=trial, epoch=epoch, path=place)
            (path / place).mkdir(parents=True)
            (path / place / "trial.pt").write_bytes(bytes(CHECKPOINT_BYTES))
        if trial in ends:
            journal.append(ends[trial], trial=trial, epoch=2, error="no longer a number")
    journal.append("run_ended", run=1, reason="interrupted")
    journal.close()


def with_checkpoints(path: Location, part: str = "runs/") -> set[int]:
    """The trials whose two checkpoints are there; a trial that has one has both."""
    found = [name for name in sizes_below(path) if name.startswith(part) and name.endswith("trial.pt")]
    trials = [int(name.removeprefix(part).split("trial-")[1][:4]) for name in found]
    assert all(trials.count(trial) == 2 for trial in trials)
    return set(trials)


def gc_json(storage: Location, *options: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    assert run(["gc", *options, "--json", "--storage", str(storage)]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


@pytest.fixture(params=["folder", "object store"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Location]:
    store: ObjectStore | None = request.getfixturevalue("object_store") if request.param == "object store" else None
    place = RemotePath(store.uri("upkeep")) if store else tmp_path
    yield place
    remove_folder(place)


def test_old_checkpoints_are_measured_and_removed_only_with_yes(
    storage: Location, capsys: pytest.CaptureFixture[str]
) -> None:
    write_experiment(storage / "birds", ENDED)
    [weight] = gc_json(storage, capsys=capsys)
    assert (weight["name"], weight["checkpoints"], weight["removed"]) == ("birds", 22, False)
    assert weight["bytes"] == sum(sizes_below(storage / "birds").values())
    assert weight["removable"] == 2 * (11 - len(KEPT)) * CHECKPOINT_BYTES
    assert with_checkpoints(storage / "birds") == set(range(11))
    [weight] = gc_json(storage, "--yes", capsys=capsys)
    assert weight["removed"]
    assert with_checkpoints(storage / "birds") == KEPT
    assert gc_json(storage, "--yes", capsys=capsys)[0]["removable"] == 0
    assert run(["list", "--storage", str(storage)]) == 0


def test_what_a_resume_starts_from_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    interrupted = {trial: end for trial, end in ENDED.items() if trial not in (9, 10)}
    write_experiment(tmp_path / "birds", interrupted)
    gc_json(tmp_path, "--yes", capsys=capsys)
    assert with_checkpoints(tmp_path / "birds") == {*KEPT, 9, 10}


def test_the_candidates_of_a_confirmation_stay_and_so_do_its_runs_but_for_those_eliminated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "birds"
    write_experiment(path, ENDED)
    trials = [(0, "published"), (3, None), (8, None)]  # 3 is not among the five best
    candidates: list[dict[str, object]] = [
        {"name": control or f"trial {n}", "control": control, "trial": n}
        | {"search_rank": None, "search_accuracy": None, "config": {}}
        for n, control in trials
    ]
    write_journal(path / "confirmation", {0: "finished", 1: "finished", 2: "finished"}, trials=3)
    document = {"format": 1, "candidates": candidates, "seeds": [7], "top_k": 2, "searched": 11}
    write_yaml(path / "confirmation" / "confirmation.yaml", document)
    journal = Journal(path / "confirmation" / JOURNAL_FILE)
    journal.append("ruled_out", candidates={"trial 8": "behind"}, rounds=1)
    journal.close()
    gc_json(tmp_path, "--yes", capsys=capsys)
    assert with_checkpoints(path) == {*KEPT, 3}
    assert with_checkpoints(path, "confirmation/runs/") == {0, 1}


@pytest.mark.parametrize("part", ["", "confirmation", "ablation/trial-0008"])
def test_nothing_of_an_experiment_is_removed_while_any_part_of_it_runs(
    tmp_path: Path, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "birds"
    write_experiment(path, ENDED)
    (path / part).mkdir(parents=True, exist_ok=True)
    with Lease(path / part).acquire():
        [weight] = gc_json(tmp_path, "--yes", capsys=capsys)
        assert (weight["state"], weight["removable"], weight["removed"]) == ("running", 0, False)
        assert run(["gc", "birds", "--whole", "--yes", "--storage", str(tmp_path)]) == 2
        refused = capsys.readouterr().err
        assert "nothing of birds is removed: " in refused
        assert "is running already (process" in refused
        assert with_checkpoints(path) == set(range(11))
    assert gc_json(tmp_path, "--yes", capsys=capsys)[0]["removed"]


def test_a_whole_experiment_goes_only_by_its_name(storage: Location, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("birds", "cats"):
        write_experiment(storage / name, ENDED, trials=3)
    assert run(["gc", "--whole", "--yes", "--storage", str(storage)]) == 2
    assert "--whole takes the names" in capsys.readouterr().err
    assert run(["gc", "cats", "dogs", "--whole", "--yes", "--storage", str(storage)]) == 2
    assert "no experiment 'dogs'" in capsys.readouterr().err
    assert run(["gc", "../birds", "--whole", "--yes", "--storage", str(storage / "cats")]) == 2
    assert "name must be up to 64 letters" in capsys.readouterr().err
    assert {path.split("/")[0] for path in sizes_below(storage)} == {"birds", "cats"}
    [weight] = gc_json(storage, "cats", "--whole", "--yes", capsys=capsys)
    assert weight["removable"] == weight["bytes"]
    assert {path.split("/")[0] for path in sizes_below(storage)} == {"birds"}


def test_a_script_without_yes_removes_nothing(tmp_path: Path) -> None:
    write_experiment(tmp_path / "birds", ENDED)
    asked = subprocess.run(
        [sys.executable, "run_search.py", "gc", "--storage", str(tmp_path)],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "birds  finished  22" in asked.stdout
    assert "nothing was deleted: to delete without a question, use --yes" in asked.stderr
    assert with_checkpoints(tmp_path / "birds") == set(range(11))
