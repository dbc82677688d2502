"""Metrics for Prometheus: searches and trials by state, epochs a second, the best, and GPUs held."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, Depends
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from tune_mentormix.service.dependencies import Shared, authorize
from tune_mentormix.service.experiments import Snapshot

router = APIRouter(include_in_schema=False, dependencies=[Depends(authorize)])
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SEARCH_STATES = ("running", "interrupted", "finished", "unreadable")
MAX_SEARCHES = 500  # with their own series, running ones first


@router.get("/metrics")
def metrics(service: Shared) -> Response:
    """All metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_SearchCollector(service.experiments.snapshots(), service.broadcaster.open_streams))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE)


class _SearchCollector(Collector):
    def __init__(self, snapshots: list[Snapshot], streams: int) -> None:
        self._snapshots = sorted(snapshots, key=lambda snapshot: snapshot.status.state != "running")
        self._streams = streams

    def collect(self) -> Iterable[Metric]:
        """Returns all series."""
        searches = _gauge("searches", "Searches by state.", "state")
        for state in SEARCH_STATES:
            searches.add_metric([state], sum(snapshot.status.state == state for snapshot in self._snapshots))
        trials = _gauge("trials", "Trials of a search by state.", "search", "state")
        best = _gauge("best_val_accuracy", "Validation accuracy of the best trial of a search.", "search", "labels")
        rate = _gauge("epochs_per_second", "Epochs of all trials of a search, over the last minute.", "search")
        epochs = _gauge("epochs", "Epochs of all trials of a search so far.", "search")
        gpus = _gauge("gpus_held", "GPUs, or fractions of them, that running trials hold.", "search")
        for snapshot in self._snapshots[:MAX_SEARCHES]:
            status = snapshot.status
            for state, count in status.trials:
                trials.add_metric([status.name, state], count)
            epochs.add_metric([status.name], status.epochs_run)
            rate.add_metric([status.name], snapshot.epochs_per_second)
            gpus.add_metric([status.name], snapshot.gpus_held)
            if status.best and status.best.val_accuracy is not None:
                best.add_metric([status.name, status.labels], status.best.val_accuracy)
        streams = _gauge("event_streams", "Event streams open now.")
        streams.add_metric([], self._streams)
        return searches, trials, best, rate, epochs, gpus, streams


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"tune_mentormix_{name}", text, labels=labels)
