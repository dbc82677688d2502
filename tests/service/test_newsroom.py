"""The service tells the people whom its configuration names what is new in its searches."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.listener import listening
from tests.support.simulated_search import SimulatedFailures, simulate_search
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.results.notifications import Notifier
from tune_mentormix.service import experiments
from tune_mentormix.service.cached_experiment import Snapshot
from tune_mentormix.service.experiments import ExperimentCache
from tune_mentormix.service.newsroom import Newsroom
from tune_mentormix.service.settings import read_server_settings
from tune_mentormix.storage.journal import JOURNAL_FILE
from tune_mentormix.storage.lease import Lease
from tune_mentormix.storage.paths import StorageError


@contextmanager
def driven(path: Path) -> Iterator[None]:
    """The search as if a driver ran it."""
    with Lease(path).acquire():
        yield


def unreachable() -> list[Snapshot]:
    """The experiments of a storage that is away."""
    raise StorageError("the storage cannot be read")


def append(path: Path, **event: object) -> None:
    with (path / JOURNAL_FILE).open("a") as journal:
        journal.write(json.dumps({"time": 1.0} | event) + "\n")


def test_ends_are_told_and_what_had_ended_before_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "NAMES_SECONDS", 0.0)
    simulate_search(tmp_path, "old", 4)
    simulate_search(tmp_path, "birds", 6, failures=SimulatedFailures({}, unfinished=(4,)))
    with listening() as listener:
        newsroom = Newsroom(ExperimentCache(tmp_path), Notifier([listener.address], ["ended", "failed"], "notify"))
        with driven(tmp_path / "birds"):
            append(tmp_path / "birds", event="run_started", run=2, num_samples=6)
            newsroom.look()
            newsroom.look()
        newsroom.look()
        assert listener.titles(1) == ["birds failed: its driver died"]
        with driven(tmp_path / "birds"):
            append(tmp_path / "birds", event="run_started", run=3, num_samples=6)
            newsroom.look()
            append(tmp_path / "birds", event="run_ended", run=3, reason="interrupted", signal="SIGTERM")
        newsroom.look()
        for _ in range(2):  # the storage is away, and then a search cannot be read: none of it is news later
            with monkeypatch.context() as away:
                away.setattr(newsroom._experiments, "snapshots", unreachable)
                with pytest.raises(StorageError):
                    newsroom.look()
            newsroom.look()
        journal = (tmp_path / "old" / JOURNAL_FILE).read_text()
        (tmp_path / "old" / JOURNAL_FILE).write_text("no event\n")
        newsroom.look()
        (tmp_path / "old" / JOURNAL_FILE).write_text(journal)
        newsroom.look()
        simulate_search(tmp_path, "late", 4)  # began and ended between two looks
        newsroom.look()
        newsroom.close()
        expected = ["birds failed: its driver died", "birds was interrupted", "late ended (finished)"]
        assert listener.titles(3) == expected


@pytest.mark.slow
def test_the_verdict_of_a_confirmation_is_told_once(confirmed: Experiment, tmp_path: Path) -> None:
    folder, original = tmp_path / confirmed.name, Path(str(confirmed.path))
    shutil.copytree(original, folder, ignore=shutil.ignore_patterns("confirmation", "runs"))
    with listening() as listener:
        newsroom = Newsroom(ExperimentCache(tmp_path), Notifier([listener.address], ["ended"], "notify"))
        newsroom.look()
        shutil.copytree(original / "confirmation", folder / "confirmation")
        newsroom.look()
        newsroom.look()
        newsroom.close()
        assert listener.titles(1) == [f"{confirmed.name}: its confirmation ended"]
    assert "points" in listener.received[0]["message"]


def test_a_configuration_that_others_may_read_holds_no_addresses(tmp_path: Path) -> None:
    config = tmp_path / "server.yaml"
    config.write_text("notify: json://user:hunter2@127.0.0.1:1/\n")
    config.chmod(0o644)
    with pytest.raises(RequestError) as refused:
        read_server_settings(config, {})
    assert str(refused.value).endswith(f"others may read it: chmod 600 {config}")
    assert "hunter2" not in str(refused.value)
    config.chmod(0o600)
    assert read_server_settings(config, {}).notify == ["json://user:hunter2@127.0.0.1:1/"]
