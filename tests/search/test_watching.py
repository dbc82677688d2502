"""A search whose environment names an address tells there how it goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.listener import listening
from tests.support.searches import SearchRunner, confirmation_of
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.results.confirmation_summary import verdicts
from tune_mentormix.search import watching
from tune_mentormix.search.watching import watching_confirmation


def test_a_search_tells_of_a_new_best_and_of_its_end(
    run_search: SearchRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening() as listener:
        monkeypatch.setenv("TUNE_MENTORMIX_NOTIFY", listener.address)
        monkeypatch.setattr(watching, "UPDATE_SECONDS", 0.0)
        experiment = run_search(tmp_path, name="told", num_samples=2)
        titles = listener.titles(2)
    assert titles[0] == "told: a new best"
    assert titles[-1] == "told ended (finished)"
    best = experiment.best()
    assert best is not None
    assert f"{best.val_accuracy:.4f} on noisy validation labels" in listener.received[-1]["message"]
    kept = [path for path in (tmp_path / "told").iterdir() if path.suffix in (".yaml", ".jsonl")]
    assert "hunter2" not in "".join(path.read_text() for path in kept)


def test_a_confirmation_tells_its_verdict_or_why_there_is_none(
    confirmed: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirmation, name = confirmation_of(confirmed), confirmed.name
    with listening() as listener:
        monkeypatch.setenv("TUNE_MENTORMIX_NOTIFY", listener.address)
        with watching_confirmation(confirmed) as watch, watch.watching() as tell:
            tell(confirmation)
        winner = confirmation.winner()
        assert winner is not None
        assert listener.received[0]["message"] == " ".join(verdicts(confirmation, winner))
        cut = replace(confirmation, test_evaluations=[], runs=replace(confirmation.runs, ended="interrupted"))
        with watching_confirmation(confirmed) as watch, watch.watching() as tell:
            tell(cut)
        with pytest.raises(RequestError), watching_confirmation(confirmed) as watch, watch.watching():
            raise RequestError("the data changed")
        with pytest.raises(RequestError), watching_confirmation(confirmed):
            raise RequestError("refused before it began, which is no news")
        assert listener.titles(3) == [
            f"{name}: its confirmation ended",
            f"{name}: its confirmation was interrupted",
            f"{name}: its confirmation failed",
        ]
    assert listener.received[2]["message"] == "the data changed"


def test_a_wrong_address_is_refused_before_anything_is_made(
    run_search: SearchRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNE_MENTORMIX_NOTIFY", "nothing")
    with pytest.raises(RequestError, match="Apprise does not understand address 1"):
        run_search(tmp_path, name="told")
    assert not (tmp_path / "told").exists()
