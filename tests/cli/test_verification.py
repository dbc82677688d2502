"""verify: writes what a person needs, reads the answers, and loses none."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.support.verifiable_search import RIGHT, made_up_search, right_labels
from tune_mentormix.cli.app import run
from tune_mentormix.experiment.experiment import read_experiment
from tune_mentormix.results.verified_labels import read_answers


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """Holds a search whose noisy labels mislead."""
    made_up_search(tmp_path)
    return tmp_path


def answer(storage: Path, path: Path, count: int) -> None:
    """Fills in the first answers of a verify.csv."""
    right = right_labels(read_experiment(storage, "misled"))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "given", "answer"])
        writer.writeheader()
        writer.writerows(row | ({"answer": right[row["image"]]} if n < count else {}) for n, row in enumerate(rows))


def test_images_are_picked_answered_and_decide(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, place = storage / "out", ["--storage", str(storage)]
    assert run(["verify", "misled", "--out", str(out), "--images", "40", *place]) == 0
    with (out / "verify.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    assert all(row["answer"] == "" for row in rows)
    assert f"verify misled --labels {out / 'verify.csv'}" in capsys.readouterr().out

    answer(storage, out / "verify.csv", 30)
    assert run(["verify", "misled", "--labels", str(out / "verify.csv"), "--by", "ann", *place]) == 0

    printed = capsys.readouterr().out
    assert "30 new answers" in printed
    assert f"30 verified labels choose trial {RIGHT}" in printed
    assert {each.by for each in read_answers(storage / "misled")} == {"ann"}

    assert run(["verify", "misled", "--labels", str(out / "verify.csv"), "--json", *place]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["added"] == 0
    assert record["trial"] == RIGHT
    assert record["candidates"][0]["on_right_labels"]["low"] > 0.7
    assert len(read_answers(storage / "misled")) == 30


def test_more_images_come_after_the_first_with_their_answers(storage: Path) -> None:
    out, place = storage / "out", ["--out", str(storage / "out"), "--storage", str(storage)]
    run(["verify", "misled", "--images", "20", *place])
    answer(storage, out / "verify.csv", 20)
    run(["verify", "misled", "--labels", str(out / "verify.csv"), "--storage", str(storage)])
    before = (out / "verify.csv").read_text().splitlines()

    assert run(["verify", "misled", "--images", "50", *place]) == 0

    after = (out / "verify.csv").read_text().splitlines()
    assert after[:21] == before
    assert len(after) == 51


def test_a_file_with_answers_that_were_not_read_is_not_overwritten(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, place = storage / "out", ["--out", str(storage / "out"), "--storage", str(storage)]
    run(["verify", "misled", *place])
    answer(storage, out / "verify.csv", 7)
    text = (out / "verify.csv").read_text()

    assert run(["verify", "misled", *place]) == 2

    complaint = capsys.readouterr().err
    assert "has 7 answers that were not read yet: read them first with verify misled --labels" in complaint
    advice = complaint.split(" first with ")[1]
    assert (out / "verify.csv").read_text() == text
    assert run(advice.split()) == 0


def test_a_wrong_file_is_refused_in_one_line(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--storage", str(storage)]
    (storage / "v.csv").write_text("image,given,answer\n1,2,3\n")
    assert run(["verify", "misled", "--labels", str(storage / "v.csv"), *place]) == 2
    assert f"nothing was asked about misled yet: first verify misled --storage {storage}" in capsys.readouterr().err

    run(["verify", "misled", *place])
    capsys.readouterr()
    (storage / "v.csv").write_text("image,given,answer\nno such image,2,3\n")
    assert run(["verify", "misled", "--labels", str(storage / "v.csv"), *place]) == 2

    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "there is no image 'no such image' to verify" in line
    assert read_answers(storage / "misled") == []
