"""The log of evaluations on a test set, and the logs that version 0.1 wrote."""

import json
from pathlib import Path

import pytest

from tests.support.object_store import ObjectStore
from tune_mentormix.errors import RequestError
from tune_mentormix.results.evaluation_log import (
    EVALUATION_LOG,
    read_evaluations,
    record_evaluation,
    record_results,
)
from tune_mentormix.storage.paths import Location, RemotePath

SEEDS, RESULTS = {"trial 7": [11, 12]}, {"trial 7": {"11": 0.5, "12": 0.75}}


@pytest.mark.parametrize("place", ["a disk", "an object store"])
def test_an_evaluation_is_on_record_before_and_after_it_is_measured(
    tmp_path: Path, object_store: ObjectStore, place: str
) -> None:
    folder: Location = tmp_path if place == "a disk" else RemotePath(object_store.uri("evaluated"))
    assert read_evaluations(folder) == []
    evaluation = record_evaluation(folder, SEEDS, images=359, winner="trial 7")
    assert read_evaluations(folder) == [evaluation]
    assert "results" not in evaluation
    record_results(folder, evaluation, RESULTS)
    (read,) = read_evaluations(folder)
    assert read == evaluation
    assert (read["seeds"], read["results"], read["split"], read["labels"]) == (SEEDS, RESULTS, "test", "clean")
    assert read["opened"] <= read["measured"]


def test_an_interrupted_evaluation_stays_on_record_and_a_truncated_line_does_no_harm(tmp_path: Path) -> None:
    record_evaluation(tmp_path, SEEDS, images=359)
    with (tmp_path / EVALUATION_LOG).open("a") as stream:
        stream.write('{"time": "2026-01-')
    assert len(read_evaluations(tmp_path)) == 1
    record_results(tmp_path, record_evaluation(tmp_path, SEEDS, images=359), RESULTS)
    assert ["results" in evaluation for evaluation in read_evaluations(tmp_path)] == [False, True]


def test_evaluations_of_a_confirmation_by_version_0_1_are_kept(tmp_path: Path) -> None:
    old = {"opened": "2025-01-01T00:00:00+00:00", "winner": "trial 7", "seeds": SEEDS, "results": RESULTS}
    (tmp_path / "sealed_test.json").write_text(json.dumps({"format": 1, "openings": [old]}))
    assert read_evaluations(tmp_path) == [old]
    new = record_evaluation(tmp_path, SEEDS, images=359)
    assert read_evaluations(tmp_path) == [old, new]


def test_evaluations_of_an_export_by_version_0_1_are_kept(tmp_path: Path) -> None:
    opened = '{"time": "2025-01-01T00:00:00+00:00", "event": "opened", "version": "0.1.0", "model_sha256": "ab"}\n'
    measured = '{"time": "2025-01-01T00:00:01+00:00", "event": "measured", "accuracy": 0.5, "model_sha256": "ab"}\n'
    (tmp_path / "test_openings.jsonl").write_text(opened + measured + opened)
    record_evaluation(tmp_path, SEEDS, model_sha256="cd")
    evaluations = read_evaluations(tmp_path)
    assert [evaluation["model_sha256"] for evaluation in evaluations] == ["ab", "ab", "cd"]
    assert evaluations[0]["accuracy"] == 0.5


@pytest.mark.parametrize("name", ["sealed_test.json", "test_openings.jsonl", EVALUATION_LOG])
def test_a_damaged_log_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"openings"\n')
    with pytest.raises(RequestError, match=f"{name} is no log of test-set evaluations: the file was damaged"):
        read_evaluations(tmp_path)


def test_an_evaluation_that_cannot_be_recorded_is_an_error(tmp_path: Path) -> None:
    (tmp_path / EVALUATION_LOG).mkdir()
    with pytest.raises(RequestError, match="the evaluation on the test set could not be recorded"):
        record_evaluation(tmp_path, SEEDS)
