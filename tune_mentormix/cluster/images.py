"""Images that stay on disk, decoded on every node before trials begin, so that no trial spends its time on that."""

from __future__ import annotations

import logging
import time

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainables.data import Dataset
from trainables.errors import DatasetError
from tune_mentormix.cluster.connection import joins_cluster
from tune_mentormix.cluster.preflight import ListNodes, node_names
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.formatting import format_duration

LOGGER = logging.getLogger(__name__)


def prepare_images(settings: SearchSettings, dataset: Dataset, list_nodes: ListNodes) -> None:
    """Has the images that stay on disk decoded on this machine or, for a cluster, on each of these nodes of it.

    A note tells how many and where before it begins, and how long it took. Nothing is done for images in memory, and
    where they are decoded already. Raises RequestError, with the node's name, where an image cannot be decoded or the
    data are not seen.
    """
    if not dataset.images_on_disk:
        return
    nodes = list_nodes() if joins_cluster(settings.address) else {}
    if nodes or not dataset.is_prepared:
        images = f"{len(dataset.train_labels) + len(dataset.validation_labels):,} images"
        where = f"on {len(nodes)} nodes" if nodes else f"into {settings.cache_dir.expanduser()}"
        LOGGER.warning("decoding %s %s, if that was not done before", images, where)
    started = time.monotonic()
    for note in _on_nodes(dataset, nodes) if nodes else [_prepared(dataset)]:
        if note is not None:
            LOGGER.warning("%s", note)
    if (seconds := time.monotonic() - started) > 1:
        LOGGER.warning("decoded in %s", format_duration(seconds))


def _prepared(dataset: Dataset) -> str | None:
    try:
        return dataset.prepare()
    except DatasetError as error:
        raise RequestError(str(error)) from error


def _on_nodes(dataset: Dataset, nodes: dict[str, str]) -> list[str | None]:
    """Returns what the nodes have to say; those that are lost meanwhile say nothing, and the others are used."""
    data = ray.put(dataset)
    prepare = ray.remote(num_cpus=0, max_retries=0)(_prepared)
    tasks = {
        node_id: prepare.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)).remote(data)
        for node_id in nodes
    }
    notes: list[str | None] = []
    for node_id, task in tasks.items():
        try:
            note = ray.get(task)
        except RayError as error:
            if node_id not in node_names():
                LOGGER.warning("node %s died while it decoded images: the other nodes are used", nodes[node_id])
                continue
            cause = getattr(error, "cause", None)
            reason = str(cause) if isinstance(cause, RequestError) else " ".join(str(error).split())[:300]
            raise RequestError(
                f"node {nodes[node_id]} cannot use the images: {reason}; on a cluster, every node must see data_dir"
            ) from error
        notes.append(note and f"node {nodes[node_id]}: {note}")
    return notes
