"""Verified labels: kept with who and when, by many at once, and read from what a person saved."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from tests.support.object_store import ObjectStore
from trainables.verify_csv import CANNOT_TELL, VerifyRow, format_verify_csv
from tune_mentormix.errors import RequestError
from tune_mentormix.results.verified_labels import (
    WITHDRAWN,
    AnswerLog,
    check_answers,
    latest_answers,
    read_answers,
    read_verify_csv,
    record_answers,
)
from tune_mentormix.storage.paths import Location, as_location

GIVEN = {"a b/ü, 1.png": "cat", "2.png": " dog "}
CLASSES = ("cat", " dog ", "Wagen\nzug")


@pytest.fixture(params=["folder", "object store"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """An experiment's folder."""
    if request.param == "folder":
        return tmp_path
    store: ObjectStore = request.getfixturevalue("object_store")
    return as_location(store.uri(tmp_path.name))


def test_answers_are_kept_with_who_and_when_and_the_latest_counts(storage: Location) -> None:
    assert record_answers(storage, {"1": "cat", "2": "dog"}, "ann") == 2
    assert record_answers(storage, {"2": CANNOT_TELL}, "bob") == 1

    answers = read_answers(storage)

    assert [(a.by, a.image, a.answer) for a in answers] == [
        ("ann", "1", "cat"),
        ("ann", "2", "dog"),
        ("bob", "2", CANNOT_TELL),
    ]
    assert all(a.time.endswith("+00:00") for a in answers)
    assert {image: a.answer for image, a in latest_answers(answers).items()} == {"1": "cat", "2": CANNOT_TELL}


def test_the_same_answers_again_add_nothing(storage: Location) -> None:
    record_answers(storage, {"1": "cat"}, "ann")

    assert record_answers(storage, {"1": "cat"}, "ann") == 0
    assert len(read_answers(storage)) == 1


def test_an_answer_that_was_taken_back_does_not_count_and_stays_on_record(storage: Location) -> None:
    record_answers(storage, {"1": "cat", "2": "dog"}, "ann")

    assert record_answers(storage, {"1": WITHDRAWN, "never answered": WITHDRAWN}, "bob") == 1
    assert record_answers(storage, {"1": WITHDRAWN}, "ann") == 0
    assert latest_answers(read_answers(storage)).keys() == {"2"}
    assert [(a.by, a.answer) for a in read_answers(storage) if a.image == "1"] == [("ann", "cat"), ("bob", WITHDRAWN)]

    assert record_answers(storage, {"1": "cat"}, "ann") == 1
    assert list(latest_answers(read_answers(storage))) == ["2", "1"]


def test_one_log_takes_many_answers(storage: Location) -> None:
    log = AnswerLog(storage)
    for number in range(6):
        log.add({str(number): "cat"}, "ann")
    log.close()

    assert [a.image for a in read_answers(storage)] == [str(number) for number in range(6)]


def _answer_many(folder: Path, by: str) -> None:
    log = AnswerLog(folder)
    for number in range(30):
        log.add({f"{by} {number}": "cat", "both": by}, by)
    log.close()


def test_two_processes_at_once_lose_no_answer(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    people = [context.Process(target=_answer_many, args=(tmp_path, by)) for by in ("ann", "bob")]
    for person in people:
        person.start()
    for person in people:
        person.join(60)

    images = {a.image for a in read_answers(tmp_path)}

    assert [person.exitcode for person in people] == [0, 0]
    assert images == {f"{by} {number}" for by in ("ann", "bob") for number in range(30)} | {"both"}


def test_a_log_that_was_cut_off_keeps_all_whole_answers(tmp_path: Path) -> None:
    record_answers(tmp_path, {"1": "cat", "2": "dog"}, "ann")
    (path,) = (tmp_path / "verification").glob("answers-*")
    path.write_bytes(path.read_bytes()[:-10])

    assert [a.image for a in read_answers(tmp_path)] == ["1"]
    assert record_answers(tmp_path, {"1": "cat", "2": "dog"}, "ann") == 1


def test_a_damaged_log_is_named(tmp_path: Path) -> None:
    record_answers(tmp_path, {"1": "cat"}, "ann")
    (path,) = (tmp_path / "verification").glob("answers-*")
    path.write_text("[1, 2]\n")

    with pytest.raises(RequestError, match=r"answers-.*\.jsonl is no log of verified labels"):
        read_answers(tmp_path)


def test_names_with_spaces_commas_and_line_breaks_come_back_as_they_are(tmp_path: Path) -> None:
    rows = [
        VerifyRow("a b/ü, 1.png", "cat", "Wagen\nzug"),
        VerifyRow("2.png", " dog ", ""),
        VerifyRow("=1", '"', "?"),
    ]
    (tmp_path / "verify.csv").write_text(format_verify_csv(rows))

    assert read_verify_csv(tmp_path / "verify.csv") == rows


def test_answers_are_matched_to_classes_and_images_not_answered_are_left_out() -> None:
    rows = [VerifyRow("a b/ü, 1.png", "cat", "Dog"), VerifyRow("2.png", "dog", ""), VerifyRow("2.png", " dog ", "?")]

    assert check_answers(rows, GIVEN, CLASSES) == {"a b/ü, 1.png": " dog ", "2.png": CANNOT_TELL}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (VerifyRow("3.png", "cat", "cat"), "no image '3.png' to verify"),
        (VerifyRow("2.png", "cat", "cat"), "image '2.png' is labelled ' dog ' in this search, not 'cat'"),
        (VerifyRow("2.png", "dog", "catt"), r"unknown answer 'catt'; did you mean 'cat'\?"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_with_what_is_allowed(row: VerifyRow, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        check_answers([row], GIVEN, CLASSES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,given\n1,cat\n", "has no column 'answer'"),
        ("image,given,answer\n1,cat\n", "line 2 must have 3 fields, got 2"),
        ('image,given,answer\n1,cat,"', "is no CSV file"),
    ],
)
def test_a_file_that_is_no_verify_csv_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "verify.csv").write_text(text)

    with pytest.raises(RequestError, match=message):
        read_verify_csv(tmp_path / "verify.csv")
