"""Metrics for Prometheus: searches and trials by state, epochs a second, the best, and GPUs held."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from starlette.responses import Response

from tune_mentormix.service.dependencies import Shared, authorize

router = APIRouter(include_in_schema=False, dependencies=[Depends(authorize)])
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SEARCH_STATES = ("running", "interrupted", "finished", "unreadable")
MAX_SEARCHES = 500  # with their own series, running ones first


@router.get("/metrics")
def metrics(service: Shared) -> Response:
    """All metrics in Prometheus' text format."""
    registry = CollectorRegistry()

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"tune_mentormix_{name}", text, labels, registry=registry)

    searches = gauge("searches", "Searches by state.", "state")
    trials = gauge("trials", "Trials of a search by state.", "search", "state")
    best = gauge("best_val_accuracy", "Validation accuracy of the best trial of a search.", "search", "labels")
    rate = gauge("epochs_per_second", "Epochs of all trials of a search, over the last minute.", "search")
    epochs = gauge("epochs", "Epochs of all trials of a search so far.", "search")
    gpus = gauge("gpus_held", "GPUs, or fractions of them, that running trials hold.", "search")
    gauge("event_streams", "Event streams open now.").set(service.broadcaster.open_streams)
    snapshots = sorted(service.experiments.snapshots(), key=lambda snapshot: snapshot.status.state != "running")
    for state in SEARCH_STATES:
        searches.labels(state).set(sum(snapshot.status.state == state for snapshot in snapshots))
    for snapshot in snapshots[:MAX_SEARCHES]:
        status = snapshot.status
        for state, count in status.trials:
            trials.labels(status.name, state).set(count)
        epochs.labels(status.name).set(status.epochs_run)
        rate.labels(status.name).set(snapshot.epochs_per_second)
        gpus.labels(status.name).set(snapshot.gpus_held)
        if status.best and status.best.val_accuracy is not None:
            best.labels(status.name, status.labels).set(status.best.val_accuracy)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE)
