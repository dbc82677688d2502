"""Where curves can be watched besides: TensorBoard always, Weights & Biases and MLflow if asked; Ray's own callbacks.

Nothing reads any of it back: the journal is the record.
"""

from __future__ import annotations

from collections.abc import Collection

from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.air.integrations.wandb import WandbLoggerCallback
from ray.tune import Callback
from ray.tune.logger import TBXLoggerCallback

PROJECT = "tune-mentormix"  # at Weights & Biases; an experiment is a group of runs there


def tracker_callbacks(names: Collection[str], experiment: str) -> list[Callback]:
    """TensorBoard's callback, and those asked for.

    Servers and keys come from each tracker's own settings, such as `MLFLOW_TRACKING_URI` and `WANDB_API_KEY`.
    """
    callbacks: list[Callback] = [TBXLoggerCallback()]  # type: ignore[no-untyped-call]
    if "wandb" in names:
        callbacks.append(WandbLoggerCallback(project=PROJECT, group=experiment))
    if "mlflow" in names:
        callbacks.append(MLflowLoggerCallback(experiment_name=experiment))
    return callbacks
