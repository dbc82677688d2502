"""Reading commands name a file that permissions or damage keep them from reading, and lists go on."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.limited_user import Ran, run_limited
from tests.support.simulated_search import simulate_search
from tests.support.verifiable_search import made_up_search
from tune_mentormix.cluster.submissions import record_submission
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import DONE, WRONG_REQUEST

NO_CLUSTER = ("--dashboard", "http://127.0.0.1:9")
READING = {
    "status": ["status", "bad"],
    "trials": ["trials", "bad"],
    "repair": ["repair", "bad"],
    "compare": ["compare", "good", "bad"],
    "gc NAME": ["gc", "bad"],
    "delete": ["delete", "bad", "--yes"],
    "resume": ["resume", "bad"],
    "confirm": ["confirm", "bad"],
    "exist-ok": ["search", "--exist-ok", "--name", "bad"],
    "start-from": ["search", "--dry-run", "--name", "new", "--start-from", "STORAGE/bad"],
}
LISTING = {"list": ["list"], "list --json": ["list", "--json"], "gc": ["gc"], "jobs": ["jobs", *NO_CLUSTER]}
WITH_TORCH = {
    "report": ["report", "bad", "--out", "STORAGE/out.html"],
    "export": ["export", "bad", "--out", "STORAGE/out"],
}


def close(path: Path) -> Path:
    path.chmod(0)
    return path


def replace_by_folder(path: Path) -> Path:
    path.unlink(missing_ok=True)
    path.mkdir()
    return path


DAMAGE: dict[str, Callable[[Path], Path]] = {
    "closed folder": lambda folder: close(folder),
    "closed settings": lambda folder: close(folder / "search.yaml"),
    "closed journal": lambda folder: close(folder / "journal.jsonl"),
    "folder for a journal": lambda folder: replace_by_folder(folder / "journal.jsonl"),
}


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Path]:
    """Makes a storage of a good and a bad search, which was submitted too; afterwards opens it all again."""
    for name in ("good", "bad"):
        simulate_search(tmp_path / "storage", name, 4, epochs=10)
    record_submission(tmp_path / "storage", "bad", "http://127.0.0.1:9", "search", SearchSettings(), {})
    yield tmp_path / "storage"
    for copy in tmp_path.iterdir():
        copy.chmod(0o700)
        for folder in (copy / "bad", copy / ".submissions"):
            if folder.exists():
                folder.chmod(0o700)


def run_all(commands: dict[str, list[str]], storages: dict[str, Path]) -> dict[tuple[str, str], Ran]:
    """Runs every command on every storage, by the names of both."""
    pairs = [(damage, name) for damage in storages for name in commands]
    filled = [
        [word.replace("STORAGE", str(storages[damage])) for word in commands[name]]
        + ["--storage", str(storages[damage])]
        for damage, name in pairs
    ]
    return dict(zip(pairs, run_limited(filled), strict=True))


def refused_in_one_line(ran: Ran, path: Path) -> None:
    assert (ran.code, ran.stdout, ran.stderr.count("\n")) == (WRONG_REQUEST, "", 1), ran
    assert str(path) in ran.stderr, ran


def test_every_command_names_the_file_that_it_cannot_read_and_lists_go_on(storage: Path, tmp_path: Path) -> None:
    storages = {damage: tmp_path / damage.replace(" ", "-") for damage in DAMAGE}
    closed = {}
    for damage, copy in storages.items():
        shutil.copytree(storage, copy)
        closed[damage] = DAMAGE[damage](copy / "bad")
    for (damage, _), ran in run_all(READING, storages).items():
        refused_in_one_line(ran, closed[damage])
    for (damage, name), ran in run_all(LISTING, storages).items():
        assert ran.code == DONE, ran
        assert "unreadable" in ran.stdout, (damage, name, ran)
        assert "good" in ran.stdout or name == "jobs", ran  # the good one was not submitted
        shown = ran.stdout if name == "list --json" else ran.stderr
        assert str(closed[damage]) in shown, ran
    listed = json.loads(run_all(LISTING, storages)["closed journal", "list --json"].stdout)
    assert [search["state"] for search in listed] == ["finished", "unreadable"]


def test_a_closed_storage_is_not_an_empty_one(storage: Path) -> None:
    close(storage)
    for ran in run_all(READING | LISTING, {"closed": storage}).values():
        errors = ran.stderr.splitlines()
        assert ran.code == WRONG_REQUEST, ran
        assert f"{storage}" in errors[-1], ran
        assert "Permission denied" in errors[-1], ran
        assert ran.stdout == "", ran


@pytest.mark.slow
def test_reports_and_exports_name_what_they_cannot_read(storage: Path, tmp_path: Path) -> None:
    for (_, name), ran in run_all(WITH_TORCH, {"labels": storage}).items():
        assert ran.code == DONE, (name, ran)
    close(storage / "bad" / "label_noise.json")
    left_out = run_all({"report": WITH_TORCH["report"]}, {"labels": storage})["labels", "report"]
    assert (left_out.code, left_out.stderr.count("\n")) == (DONE, 1), left_out
    assert str(storage / "bad" / "label_noise.json") in left_out.stderr
    close(storage / "out" / "best_config.yaml")
    (tmp_path / "photos" / "closed").mkdir(parents=True)
    close(tmp_path / "photos" / "closed")
    reading = [
        (["train", str(storage / "out"), "--out", str(tmp_path / "trained")], storage / "out" / "best_config.yaml"),
        (["search", "--dry-run", "--start-from", str(storage / "out")], storage / "out" / "best_config.yaml"),
    ]
    for (_, path), ran in zip(reading, run_limited([command for command, _ in reading]), strict=True):
        refused_in_one_line(ran, path)


def test_what_lies_beside_the_journal_is_named_by_the_commands_that_read_it(storage: Path) -> None:
    (storage / "bad" / "runs").mkdir()
    close(storage / "bad" / "runs")
    usage = run_all({"gc": ["gc"], "gc NAME": ["gc", "bad"], "status": ["status", "bad"]}, {"runs": storage})
    assert "unreadable" in usage["runs", "gc"].stdout
    assert str(storage / "bad" / "runs") in usage["runs", "gc"].stderr
    refused_in_one_line(usage["runs", "gc NAME"], storage / "bad" / "runs")
    assert usage["runs", "status"].code == DONE
    (storage / "bad" / "runs").chmod(0o700)

    (storage / "bad" / "lease.json").write_text("{}")
    close(storage / "bad" / "lease.json")
    held = run_all({"status": ["status", "bad"], "resume": ["resume", "bad"]}, {"lease": storage})
    for ran in held.values():
        refused_in_one_line(ran, storage / "bad" / "lease.json")
    (storage / "bad" / "lease.json").unlink()

    close(storage / ".submissions")
    jobs = run_all({"jobs": ["jobs", *NO_CLUSTER]}, {"jobs": storage})["jobs", "jobs"]
    assert jobs.code == WRONG_REQUEST
    assert str(storage / ".submissions") in jobs.stderr.splitlines()[-1]


def test_answers_in_files_that_cannot_be_read_are_told_once(tmp_path: Path) -> None:
    storage, lines = tmp_path, []
    folder = storage / "bad"
    simulate_search(storage, "bad", 8, epochs=10, with_answers=True)
    (folder / "answers").mkdir()
    for number, line in enumerate((folder / "journal.jsonl").read_text().splitlines()):
        event = json.loads(line)
        if bits := event.pop("val_correct", None):
            event["val_correct_file"] = f"answers/{number}.bits"
            (folder / event["val_correct_file"]).write_bytes(base64.b64decode(bits))
        lines.append(json.dumps(event) + "\n")
    (folder / "journal.jsonl").write_text("".join(lines))
    open_to_all = run_all({"status": ["status", "bad"]}, {"open": storage})["open", "status"]
    assert (open_to_all.code, open_to_all.stderr) == (DONE, "")
    close(folder / "answers")

    for ran in run_all({"status": ["status", "bad"]}, {"closed": storage}).values():
        assert (ran.code, ran.stderr.count("\n")) == (DONE, 1), ran
        assert f"cannot read {folder / 'answers'}: Permission denied" in ran.stderr
    (folder / "answers").chmod(0o700)


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["runs", "runs/1/trial-0/checkpoint_000004/validation_probabilities.npy"])
def test_labels_are_not_scored_by_fewer_runs_because_some_cannot_be_read(tmp_path: Path, closed: str) -> None:
    folder = tmp_path / "misled"
    made_up_search(tmp_path)
    journal = (folder / "journal.jsonl").read_text()
    best = max((json.loads(line) for line in journal.splitlines()), key=lambda event: event.get("val_accuracy", 0))
    closed = closed.replace("trial-0", f"trial-{best['trial']}")
    close(folder / closed)

    commands = [["labels", "misled"], ["verify", "misled", "--out", str(tmp_path / "verify")]]
    for ran in run_limited([[*command, "--storage", str(tmp_path)] for command in commands]):
        refused_in_one_line(ran, folder / closed)
        assert "Permission denied" in ran.stderr
    assert not (tmp_path / "verify").exists()
    (folder / closed).chmod(0o700)
