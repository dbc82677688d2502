"""Keeps a Tune run in step with a cluster whose nodes come and go."""

from __future__ import annotations

import logging
from typing import Any

import ray
from ray.tune import Callback
from ray.tune.result import SHOULD_CHECKPOINT

from tune_mentormix.cluster.nodes import NodeCounts, NodeWatch
from tune_mentormix.experiment.events import NodesChanged
from tune_mentormix.search.searcher import JournaledSearcher, Run

logger = logging.getLogger(__name__)


class NodeChanges(Callback):
    """Records how many nodes there are, and moves trials off a node that is about to leave.

    Such a trial writes a checkpoint after the epoch that it is in, and continues from it on another node, as a new
    attempt. So it loses nothing if the epoch ends before the node does.
    """

    def __init__(self, run: Run, nodes: NodeWatch, searcher: JournaledSearcher) -> None:
        """`nodes` is told how many trials are left; `searcher` starts the trials again."""
        self._run = run
        self._nodes = nodes
        self._searcher = searcher
        self._recorded: NodeCounts | None = None
        self._moving: dict[int, str] = {}  # trial → the host that it leaves

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Counts the trials that are left, and records what has changed."""
        experiment = self._run.experiment
        ended = sum(trial.has_ended for trial in experiment.trials.values())
        self._nodes.wanted = max(0, self._run.settings.num_samples - ended)
        counts = self._nodes.counts
        if self._recorded is None or counts[:2] != self._recorded[:2]:
            self._recorded = counts
            self._run.journal.record(NodesChanged(nodes=counts.nodes, room=counts.room, waiting=counts.waiting))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Asks for a checkpoint of a trial whose node is about to leave."""
        number = trial.config["trial"]
        if self._nodes.is_leaving(result.get("node_id", "")) and not result["done"] and number not in self._moving:
            self._moving[number] = result["hostname"]
            result[SHOULD_CHECKPOINT] = True

    def on_checkpoint(self, iteration: int, trials: list[Any], trial: Any, checkpoint: Any, **info: Any) -> None:
        """Ends the worker of a trial that has written the checkpoint it was asked for."""
        number = trial.config["trial"]
        host = self._moving.pop(number, None)
        if host is not None and not self._run.experiment.trials[number].has_ended:
            logger.warning("trial %d leaves %s, which is about to go, and continues elsewhere", number, host)
            self._searcher.move(number)
            ray.kill(trial.temporary_state.ray_actor)
