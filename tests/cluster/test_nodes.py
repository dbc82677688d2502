"""Nodes that come and go, with a list of nodes in place of Ray's: what is asked for, waited for, checked and used."""

from __future__ import annotations

import time
from typing import Any

import pytest
from ray.tune import PlacementGroupFactory

from tests.support.patience import PATIENCE_SECONDS
from tune_mentormix.cluster import autoscaling, nodes, preflight, resources
from tune_mentormix.cluster.autoscaling import NodeRequests, not_on, wait_for_room
from tune_mentormix.cluster.nodes import CHECKS, NodeCounts, NodeWatch
from tune_mentormix.cluster.preflight import ListNodes
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.search.tune_run import placement

JOINED: dict[str, Any] = {"address": "127.0.0.1:1", "gpus_per_trial": 1.0}


class FakeCluster:
    """The nodes that Ray would list, and the placement groups that were asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.nodes: dict[str, dict[str, float]] = {}
        self.draining: dict[str, int] = {}
        self.pending: list[tuple[dict[str, float], Any]] = []
        for module in (autoscaling, nodes, preflight, resources):
            monkeypatch.setattr(module, "live_nodes", self.live_nodes)
        monkeypatch.setattr(nodes, "draining_nodes", lambda: frozenset(self.draining))
        monkeypatch.setattr(autoscaling, "placement_group", self.place)
        monkeypatch.setattr(autoscaling, "remove_placement_group", self.pending.remove)
        monkeypatch.setattr(autoscaling, "POLL_SECONDS", 0.01)
        monkeypatch.setattr(nodes, "POLL_SECONDS", 0.01)
        monkeypatch.setattr(nodes, "CHECK_AGAIN_SECONDS", 0.01)

    def live_nodes(self) -> list[dict[str, Any]]:
        host = {"NodeManagerHostname": "host", "NodeManagerAddress": "10.0.0.1"}
        return [{"NodeID": key, "Resources": resources, **host} for key, resources in self.nodes.items()]

    def place(self, bundles: list[dict[str, float]], bundle_label_selector: Any) -> tuple[dict[str, float], Any]:
        request = (bundles[0], bundle_label_selector)
        self.pending.append(request)
        return request


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    return FakeCluster(monkeypatch)


def wait_until(watch: NodeWatch, counts: NodeCounts) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while watch.counts != counts:
        assert time.monotonic() < deadline, watch.counts
        time.sleep(0.01)


def test_requests_are_for_a_trial_each_and_outside_of_the_nodes_that_are_there(cluster: FakeCluster) -> None:
    requests = NodeRequests(SearchSettings(cpus_per_trial=2, **JOINED))
    requests.ask(3, [])
    assert cluster.pending == [({"CPU": 2.0, "GPU": 1.0}, None)] * 3
    requests.ask(2, ["b", "a"])
    assert cluster.pending == [({"CPU": 2.0, "GPU": 1.0}, [{"ray.io/node-id": "!in(a,b)"}])] * 2
    requests.ask(1000, ["a", "b"])
    assert len(cluster.pending) == autoscaling.MAX_PENDING
    requests.close()
    assert cluster.pending == []


def test_a_search_waits_for_the_gpu_that_it_asks_for(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.nodes["head"] = {"CPU": 4.0}
    asked: list[int] = []

    def come(seconds: float) -> None:
        asked.append(len(cluster.pending))
        if len(asked) == 3:
            cluster.nodes["new"] = {"CPU": 4.0, "GPU": 1.0}

    monkeypatch.setattr(time, "sleep", come)
    wait_for_room(SearchSettings(num_samples=5, **JOINED))
    assert asked == [5, 5, 5]
    assert cluster.pending == []
    waiting, came = caplog.messages
    assert waiting == (
        "gpus_per_trial must be at most 0, the GPUs of the largest node, got 1 (--gpus-per-trial): waiting up to "
        "10 min 0 s for a node with room for a trial (--wait-for-nodes)"
    )
    assert came.startswith("a node with room for a trial came after ")


def test_a_search_whose_nodes_never_come_is_refused_after_its_time(cluster: FakeCluster) -> None:
    cluster.nodes["head"] = {"CPU": 4.0}
    with pytest.raises(RequestError, match=r"got 1 .*\. No such node came within 0 s \(--wait-for-nodes\)$"):
        wait_for_room(SearchSettings(wait_for_nodes=0.05, **JOINED))
    assert cluster.pending == []


def test_nothing_is_waited_for_on_this_machine_alone(cluster: FakeCluster) -> None:
    cluster.nodes["here"] = {"CPU": 4.0}
    with pytest.raises(RequestError, match=r"^gpus_per_trial must be at most 0"):
        wait_for_room(SearchSettings(gpus_per_trial=1.0))


def test_a_node_that_joins_is_used_once_a_check_succeeds_and_asked_for_until_then(cluster: FakeCluster) -> None:
    checked: list[dict[str, str]] = []

    def check(list_nodes: ListNodes) -> None:
        is_first = list_nodes() not in checked
        checked.append(list_nodes())
        if "bad" in list_nodes() or ("slow" in list_nodes() and is_first):
            raise RequestError("node host lacks torch")

    cluster.nodes["a"] = {"CPU": 1.0, "GPU": 1.0}
    watch = NodeWatch(SearchSettings(num_samples=4, **JOINED), ["a"], check)
    watch.start()
    try:
        assert (watch.counts, watch.room()) == (NodeCounts(1, 1, 3), 1)
        cluster.nodes |= {
            "b": {"CPU": 2.0, "GPU": 2.0},
            "bad": {"CPU": 8.0, "GPU": 8.0},
            "slow": {"CPU": 1.0, "GPU": 1.0},
        }
        wait_until(watch, NodeCounts(3, 4, 0))
        del cluster.nodes["slow"]
        wait_until(watch, NodeCounts(2, 3, 1))
        while not watch.unfit:
            time.sleep(0.01)
        assert watch.unfit == {"bad"}
        assert sorted(map(list, checked)) == [["b"], *CHECKS * [["bad"]], ["slow"], ["slow"]]
        cluster.draining = {"b": 0}
        wait_until(watch, NodeCounts(1, 1, 3))
        assert (watch.is_leaving("b"), watch.is_leaving("a"), watch.is_leaving("")) == (True, False, False)
        del cluster.nodes["b"]
        watch.wanted = 0
        wait_until(watch, NodeCounts(1, 1, 0))
    finally:
        watch.stop()
    assert cluster.pending == []


def test_trials_are_kept_off_a_node_that_failed_its_check(cluster: FakeCluster) -> None:
    settings = SearchSettings(**JOINED)
    watch = NodeWatch(settings, [], lambda _: None)
    assert placement(settings, watch) is None
    watch.unfit = frozenset({"bad"})
    chosen = placement(settings, watch)
    assert chosen == PlacementGroupFactory([{"CPU": 1.0, "GPU": 1.0}], bundle_label_selector=[not_on(["bad"])])
