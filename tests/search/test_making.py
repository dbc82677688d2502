"""Files made on a cluster, without one: the time that it may take, and what nothing can be made of."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

from tests.support.simulated_search import simulate_search
from tune_mentormix.cluster.jobs import ClusterJobs
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError, SearchFailedError
from tune_mentormix.search import making


def test_what_takes_longer_than_its_time_budget_is_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled: list[object] = []
    monkeypatch.setattr(ray, "wait", lambda tasks, timeout: ([], tasks))
    monkeypatch.setattr(ray, "cancel", lambda task, force: cancelled.append(task))
    simulate_search(tmp_path, "birds", 3)
    settings = SearchSettings(storage=tmp_path, time_budget=0.05)
    with pytest.raises(SearchFailedError, match=r"^the refit of birds was not made within 0 s \(time_budget\)$"):
        making._await("task", settings, "birds", "refit", print)
    assert cancelled == ["task"]


def test_a_page_to_verify_is_refused_where_no_accuracy_is_maximised(tmp_path: Path) -> None:
    simulate_search(tmp_path, "birds", 3, metric="macro_f1")
    with pytest.raises(RequestError, match="verify estimates accuracies, and birds maximises macro_f1"):
        ClusterJobs("http://127.0.0.1:1", tmp_path).make("birds", "verify", {})
