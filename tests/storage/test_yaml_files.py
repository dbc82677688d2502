from pathlib import Path

import pytest

from tune_mentormix.errors import RequestError
from tune_mentormix.storage.yaml_files import parse_yaml, read_yaml, write_yaml


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    values = {"name": "a", "noise": 0.4, "space": {"burn_in": {"low": 0, "high": 30}}, "address": None}
    write_yaml(tmp_path / "a.yaml", values)
    assert read_yaml(tmp_path / "a.yaml").values == values
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]


@pytest.mark.parametrize("text", ["1e5", "0o7", "012", "yes", "1:30", "2021-01-01", "~", "1_000", ".5"])
def test_a_text_stays_a_text(tmp_path: Path, text: str) -> None:
    write_yaml(tmp_path / "a.yaml", {"name": text})
    assert read_yaml(tmp_path / "a.yaml").values == {"name": text}


def test_an_experiment_named_like_a_number_of_yaml_1_2_keeps_its_name() -> None:
    assert parse_yaml("name: 1e5\n", "search.yaml").values == {"name": "1e5"}  # as earlier versions wrote it


@pytest.mark.parametrize(
    "word", ["yes", "No", "on", "1:30", "1:30.5", "2021-01-01", "2021-99-99", "=", "<<", "1_0", "0b1"]
)
def test_a_word_that_only_yaml_1_1_takes_for_something_else_is_a_text(word: str) -> None:
    assert parse_yaml(f"a: {word}\n", "s.yaml").values == {"a": word}


@pytest.mark.parametrize(
    ("text", "value"),
    [("010", 10), ("-3", -3), ("0x1F", 31), ("1.0e-05", 1e-5), (".5", 0.5), ("True", True), ("~", None), ("", None)],
)
def test_numbers_and_truth_values_are_read_as_in_yaml_1_2(text: str, value: object) -> None:
    assert parse_yaml(f"a: {text}\n", "s.yaml").values == {"a": value}


def test_a_key_is_found_by_its_line() -> None:
    document = parse_yaml("name: a\nspace:\n  burn_in: 10\n", "s.yaml")
    assert document.place("space", "burn_in") == "s.yaml, line 3"
    assert document.place("space", "unknown") == "s.yaml, line 2"
    assert document.place("unknown") == "s.yaml"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name: a\nname: b\n", "s.yaml, line 2: 'name' stands twice"),
        ("space:\n  a: 1\n  a: 2\n", "s.yaml, line 3: 'a' stands twice"),
        ("a: [1\n", "is not YAML"),
        ("- a\n", "must hold `key: value` lines, got a list"),
        ("", "must hold `key: value` lines, got nothing"),
        ("a: &x 1\nb: *x\n", "uses a YAML alias"),
        (
            "a: !!python/object/apply:os.getcwd []\n",
            "s.yaml, line 1: '!!python/object/apply:os.getcwd' is a YAML tag",
        ),
        ("b: 1\na: !!bool maybe\n", "s.yaml, line 2: '!!bool' is a YAML tag; write the value without it"),
        ("a: !own {b: 1}\n", "'!own' is a YAML tag"),
        ("a: \x00\n", "is not YAML"),
        ("a: " + 100_000 * "[", "is not a settings file: it is nested too deep"),
    ],
)
def test_what_is_no_settings_file_is_refused_in_one_line(text: str, complaint: str) -> None:
    with pytest.raises(RequestError, match=complaint.replace("(", r"\(")) as caught:
        parse_yaml(text, "s.yaml")
    assert "\n" not in str(caught.value)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as stream:
        stream.truncate(100_000_000)
    with pytest.raises(RequestError, match="100,000,000 bytes"):
        read_yaml(huge)


def test_a_file_of_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match="not UTF-8"):
        read_yaml(tmp_path / "bytes.yaml")
