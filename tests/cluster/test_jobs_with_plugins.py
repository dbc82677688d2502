"""The code of plug-ins travels with a search that is submitted to a cluster of two nodes, in token mode."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.jobs_cluster import JobsCluster
from tests.support.own_plugins import PARTS_SOURCE
from tests.support.patience import PATIENCE_SECONDS
from tune_mentormix.experiment.experiment import read_experiment

SOURCE = (
    """
import numpy as np
import torch
from birds_job.layers import HEAD
from torch import nn


class Net(nn.Sequential):
    def __init__(self, num_classes, in_channels):
        super().__init__(nn.Flatten(), HEAD(64 * in_channels, num_classes))
"""
    + PARTS_SOURCE
    + """


def accuracy(labels, probabilities):
    return float((probabilities.argmax(axis=1) == labels).mean())
"""
)
OWN = [
    "--network",
    "birds_job.parts:Net",
    "--dataset",
    "birds_job.parts:load",
    "--metric",
    "birds_job.parts:accuracy",
]
OWN += ["--set", "mentor=birds_job.parts:half", "--set", "augmentation=birds_job.parts:darker"]

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[JobsCluster]:
    cluster = JobsCluster(cpus=1, nodes=1)
    yield cluster
    cluster.close()


def state_of(cluster: JobsCluster, storage: Path) -> str:
    """That of the submitted search."""
    done = cluster.run("jobs", "--json", "--storage", str(storage))
    assert done.returncode == 0, done.stderr
    (job,) = json.loads(done.stdout)
    assert job["state"] != "failed", cluster.run("logs", "own", "--storage", str(storage)).stdout[-3000:]
    return str(job["state"])


def test_parts_of_every_kind_run_where_only_the_job_brings_their_code(cluster: JobsCluster, tmp_path: Path) -> None:
    package = tmp_path / "code" / "birds_job"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "layers.py").write_text("from torch.nn import Linear as HEAD\n")
    (package / "parts.py").write_text(SOURCE)
    storage = tmp_path / "storage"
    small = ["--epochs", "2", "--trials", "4", "--set", "batch_size=32", "--storage", str(storage)]
    sent = cluster.run("submit", "--name", "own", *OWN, *small, PYTHONPATH=str(package.parent))
    assert sent.returncode == 0, sent.stderr
    package.rename(tmp_path / "gone")  # from now on only the job brings the code
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (state := state_of(cluster, storage)) != "finished":
        assert time.monotonic() < deadline, state
        time.sleep(2)
    experiment = read_experiment(storage, "own")
    assert sum(trial.score is not None for trial in experiment.trials.values()) == 4
    assert set(experiment.provenance.plug_ins) == {
        word for option in OWN for word in option.split("=") if ":" in word
    }
