"""The audit is worth something only if it sees what must not be."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.audit import audit

CONFIG = {"burn_in": 10}


def journal(folder: Path, *events: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "journal.jsonl").write_text(
        "".join(json.dumps({"time": 0, "trial": 0} | event) + "\n" for event in events)
    )
    return folder


def proposed(attempt: int = 1, **config: Any) -> dict[str, Any]:
    return {"event": "proposed", "attempt": attempt, "config": CONFIG | config}


def report(epoch: int, accuracy: float = 0.5) -> dict[str, Any]:
    return {"event": "report", "epoch": epoch, "val_accuracy": accuracy}


FINISHED = {"event": "finished"}


def test_a_trial_retried_from_its_checkpoint_is_right(tmp_path: Path) -> None:
    events = [proposed(), report(1), report(2), proposed(2), report(2), report(3), FINISHED]
    found = audit(journal(tmp_path, *events), asked=1, checkpoint_every=1)
    assert (found.wrong, found.lost, found.doubled) == ([], 0, 0)
    assert (found.restarts, found.repeated, found.ends["finished"]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([proposed(), report(1)], "ended 0 times"),
        ([proposed(), report(1), FINISHED, FINISHED], "ended 2 times"),
        ([proposed(), report(1), report(3), FINISHED], "epoch 3 followed 1"),
        ([proposed(), report(1), FINISHED, report(2)], "continued after its end"),
        ([proposed(), report(1), proposed(2), report(1, 0.6), FINISHED], "came out differently"),
        ([proposed(), report(1), proposed(1), report(2), FINISHED], "had attempts"),
        ([proposed(), *map(report, [1, 2, 3]), proposed(2), *map(report, [1, 2, 3]), FINISHED], "ran again"),
        ([proposed(), report(1), {"event": "failed", "error": "lost"}], "failed: lost"),
        ([proposed(), report(1), {"event": "finished", "trial": 4}], "were asked for"),
    ],
)
def test_what_must_not_be_is_found(tmp_path: Path, events: list[dict[str, Any]], words: str) -> None:
    found = audit(journal(tmp_path, *events), asked=1, checkpoint_every=1)
    assert any(words in line for line in found.wrong), found.wrong


def test_another_configuration_under_the_same_number_is_a_double(tmp_path: Path) -> None:
    events = [proposed(), report(1), proposed(2, burn_in=20), FINISHED]
    assert audit(journal(tmp_path, *events), asked=1, checkpoint_every=1).doubled == 1


def test_a_curve_that_differs_from_the_undisturbed_one_is_found(tmp_path: Path) -> None:
    disturbed = journal(tmp_path / "disturbed", proposed(), report(1, 0.5), FINISHED)
    undisturbed = journal(tmp_path / "undisturbed", proposed(), report(1, 0.6), FINISHED)
    found = audit(disturbed, asked=1, checkpoint_every=1, undisturbed=undisturbed)
    assert found.wrong == ["curves differ from those of the undisturbed search"]
