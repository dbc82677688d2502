"""What Prometheus reads: searches and trials by state, epochs a second, the best, and GPUs held."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from tune_mentormix.experiment.experiment import TRIAL_STATES
from tune_mentormix.service.state import Shared
from tune_mentormix.service.summary import Summary

router = APIRouter(include_in_schema=False)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SEARCH_STATES = ("running", "interrupted", "finished", "unreadable")
MOST_SEARCHES = 500  # with series of their own, running ones first


@router.get("/metrics")
def metrics(service: Shared) -> Response:
    """In Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Searches(service.library.summaries(), service.streams.taken))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE)


class _Searches(Collector):
    """What the experiments say now."""

    def __init__(self, summaries: list[Summary], streams: int) -> None:
        self._summaries = summaries
        self._streams = streams

    def collect(self) -> Iterable[Metric]:
        """All series."""
        searches = _gauge("searches", "Searches by state.", ["state"])
        for state in SEARCH_STATES:
            searches.add_metric([state], sum(summary.state == state for summary in self._summaries))
        yield searches
        shown = sorted(self._summaries, key=lambda summary: (summary.state != "running", summary.name))[
            :MOST_SEARCHES
        ]
        trials = _gauge("trials", "Trials of a search by state.", ["search", "state"])
        best = _gauge("best_val_accuracy", "Validation accuracy of the best trial of a search.", ["search", "labels"])
        rate = _gauge("epochs_per_second", "Epochs of all trials of a search, over the last minute.", ["search"])
        epochs = _gauge("epochs", "Epochs of all trials of a search so far.", ["search"])
        gpus = _gauge("gpus_held", "GPUs, or shares of them, that running trials hold.", ["search"])
        for summary in shown:
            for state in TRIAL_STATES:
                trials.add_metric([summary.name, state], summary.status["trials"][state])
            epochs.add_metric([summary.name], summary.status.get("epochs_run", 0))
            rate.add_metric([summary.name], summary.epochs_per_second)
            gpus.add_metric([summary.name], summary.gpus_held)
            found = summary.status.get("best")
            if found:
                best.add_metric([summary.name, summary.status["labels"]], found["val_accuracy"])
        yield from (trials, best, rate, epochs, gpus)
        streams = _gauge("event_streams", "Event streams open now.", [])
        streams.add_metric([], self._streams)
        yield streams


def _gauge(name: str, text: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"tune_mentormix_{name}", text, labels=labels)
