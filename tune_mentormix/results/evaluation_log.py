"""The log of evaluations on the test set: a file in the folder of a confirmation, and one in that of an export.

An evaluation is one line before anything is measured, so that an interrupted one is on record too, and one after it.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import tune_mentormix
from trainables.errors import describe_value, one_line
from tune_mentormix.errors import RequestError
from tune_mentormix.storage.journal_backends import journal_lines, open_backend
from tune_mentormix.storage.paths import Location

EVALUATION_LOG = "test_evaluations.jsonl"
OLD_EXPORT_LOG = "test_openings.jsonl"  # of version 0.1: the same lines
OLD_CONFIRMATION_LOG = "sealed_test.json"  # of version 0.1: one JSON document

Evaluation = dict[str, Any]


class _Recorded(BaseModel):
    """The fields of an evaluation that are read again."""

    model_config = ConfigDict(extra="allow")

    opened: str
    images: Annotated[int, Field(ge=0)] | None = None
    seeds: dict[str, list[int]] = {}
    results: dict[str, dict[Annotated[str, Field(pattern="^[0-9]+$")], Annotated[float, Field(ge=0, le=1)]]] = {}


def read_evaluations(folder: Location) -> list[Evaluation]:
    """Reads every evaluation on the test set, oldest first; `results` is missing from an interrupted one.

    Raises RequestError if a log is damaged or cannot be read.
    """
    evaluations: list[Evaluation] = []
    for name in (OLD_CONFIRMATION_LOG, OLD_EXPORT_LOG, EVALUATION_LOG):
        path = folder / name
        try:
            if name == OLD_CONFIRMATION_LOG:
                evaluations += json.loads(path.read_text())["openings"] if path.is_file() else []
            else:
                for line in journal_lines(path):
                    _add(evaluations, json.loads(line))
            for evaluation in evaluations:
                _Recorded.model_validate(evaluation)
        except OSError as error:
            raise RequestError(f"cannot read {path}: {one_line(error)}") from error
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise RequestError(
                f"{path} is no log of test-set evaluations: the file was damaged{_detail(error)}; restore it, or "
                "move it away: then no use of the test set is on record"
            ) from error
    return evaluations


def record_evaluation(folder: Location, seeds: dict[str, list[int]], **fields: Any) -> Evaluation:
    """Records that networks, by name and seed, are about to be evaluated. Raises RequestError if that is impossible.

    `fields` tell which networks on which data: `images`, `trained_on`, and `winner` or `model_sha256`.
    """
    common = {"version": tune_mentormix.__version__, "split": "test", "labels": "clean"}
    return _append(folder, [], event="opened", **common, **fields, seeds=seeds)


def record_results(folder: Location, evaluation: Evaluation, results: dict[str, dict[str, float]]) -> None:
    """Adds the accuracies, by name and seed, to the evaluation and to the log. Raises RequestError as above."""
    _append(folder, [evaluation], event="measured", results=results)


def _append(folder: Location, evaluations: list[Evaluation], **fields: Any) -> Evaluation:
    path = folder / EVALUATION_LOG
    line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), **fields}, allow_nan=False)
    try:
        backend = open_backend(path)
        backend.append(line.encode() + b"\n")
        backend.close()
    except OSError as error:
        reason = f"{path} cannot be written ({one_line(error)})"
        raise RequestError(f"the evaluation on the test set could not be recorded: {reason}") from error
    _add(evaluations, json.loads(line))
    return evaluations[-1]


def _add(evaluations: list[Evaluation], line: dict[str, Any]) -> None:
    event, time = line.pop("event"), line.pop("time")
    if event == "opened":
        evaluations.append({})
    evaluations[-1] |= {event: time, **line}


def _detail(error: Exception) -> str:
    return f" ({describe_value(error.errors()[0])})" if isinstance(error, ValidationError) else ""
