"""MentorMix as a Ray Tune trainable: the only module here that imports Ray.

A failure of the trial itself (diverged, out of memory, bad settings) is a result, not an exception: a retry would
fail again. An exception that leaves this class is the worker's or the storage's, and worth a retry; so is a
checkpoint that cannot be read here, corrupt or unreachable. After most CUDA errors a process can no longer use its
GPU: they leave this class too, and Ray ends the worker and starts another.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
import torch
from ray.experimental.internal_kv import (
    _internal_kv_del,
    _internal_kv_get,
    _internal_kv_initialized,
    _internal_kv_list,
    _internal_kv_put,
)
from ray.tune import Trainable
from torch import Tensor

from trainables.checkpoint import load_checkpoint, local_copy, save_checkpoint
from trainables.data import Dataset
from trainables.device import DeviceDataset, find_device
from trainables.errors import CheckpointError, MissingPackageError, NetworkError, PluginError, TrainingDiverged
from trainables.files import Result, retry_with_backoff
from trainables.plugins import PluginKind, Plugins, blamed_plugin, in_words, plugins_in
from trainables.settings import DeviceName, TrialSettings
from trainables.training import Trainer

if TYPE_CHECKING:  # a private module of Ray, which may move
    from ray.train._internal.storage import StorageContext

logger = logging.getLogger(__name__)

MAX_REASON_LENGTH = 500  # characters
_WAITS = "tune-mentormix-waits"  # namespace of Ray's key-value store
CUDA_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation, the one error after which the process can still use its GPU
_SELF_EXPLAINING = (TrainingDiverged, CheckpointError, MissingPackageError, ValueError)


class MentorMixTrainable(Trainable):
    """One trial after another in the same process; the dataset is copied to the device once.

    Use with `tune.with_parameters(MentorMixTrainable, dataset=..., threads=...)`; `threads` are torch's on the CPU,
    `device` is where to train, `plugins` are those that trials use, `metric` tells their best epoch. `waits` names
    the run for `waiting_trials`; without it, no one is told of a trial that waits for the storage.
    The configuration holds `settings`, the fields of `TrialSettings`; `resume_from`, the folder or the URI of a
    checkpoint to continue from, or None; `fold`, as `Dataset.fold` takes it (none: 0); and `trial` and `attempt`, its
    numbers, which its checkpoints get.

    A result is `Trainer.train_epoch`'s metrics, with `device` (`cuda`, `cpu` or `mps`), Ray's `node_id`, `done` after
    the last epoch, `val_correct` (see `pack_answers`) and `val_images`, how many these are. A trial that fails
    reports `failure`, the reason in one line, with `done`, `epoch`, and a `val_accuracy` of NaN.
    """

    _data: DeviceDataset | None
    _fold: int  # that `_data` holds
    _trainer: Trainer | None  # None once the trial has failed
    _failure: str
    _epoch: int
    _identity: dict[str, int]  # of the trial in its search
    _plugins: Mapping[str, PluginKind]  # that the trial uses

    def setup(
        self,
        config: dict[str, Any],
        dataset: Dataset | None = None,
        threads: int = 1,
        waits: str = "",
        device: DeviceName = "auto",
        plugins: Plugins | None = None,
        metric: str = "val_accuracy",
    ) -> None:
        """Copies the dataset to the device and starts the trial. Raises ValueError without a dataset."""
        if dataset is None:
            raise ValueError("use tune.with_parameters(MentorMixTrainable, dataset=...)")
        self._dataset = dataset
        self._threads = threads
        self._waits = waits
        self._device = device
        self._metric = metric
        if plugins:
            plugins.allow()
        self._data = None
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Starts another trial in this process, with the data that are on the device already."""
        self._start(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Trains for one epoch; a trial resumed after its last epoch reports that epoch again."""
        if self._trainer is not None and self._trainer.epoch < self._trainer.settings.epochs:
            self._attempt(self._trainer.train_epoch)
        if self._trainer is None:
            return {"failure": self._failure, "done": True, "epoch": self._epoch, "val_accuracy": float("nan")}
        self._epoch = self._trainer.epoch
        result: dict[str, Any] = {**self._trainer.metrics, "device": self._trainer.data.device.type}
        if ray.is_initialized():
            result["node_id"] = ray.get_runtime_context().get_node_id()
        if self._trainer.validation is not None:
            correct = self._trainer.validation.correct
            result |= {"val_images": len(correct), "val_correct": pack_answers(correct)}
        return result | {"done": self._epoch >= self._trainer.settings.epochs}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Writes the trial's whole state; a failed trial has none."""
        if self._trainer is not None:
            save_checkpoint(self._trainer, Path(checkpoint_dir), self._identity)

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Writes a checkpoint that Tune uploads, with retries while the storage is full or unreachable.

        Raises:
            StorageUnavailableError: if the last retry failed too.
        """
        storage = self._storage
        if checkpoint_dir is not None or storage is None:
            return super().save(checkpoint_dir)
        with TemporaryDirectory(prefix="checkpoint-") as folder:
            return self._retry(lambda: self._save(folder, storage), "written")

    def load_checkpoint(self, checkpoint: dict[str, Any] | str | None) -> None:
        """Continues from a folder that `save_checkpoint` wrote.

        Raises:
            CheckpointError: if there is no intact checkpoint, or it does not fit the trial.
            StorageUnavailableError: if it could not be read, nor with the last retry.
        """
        trainer = self._trainer
        if trainer is not None:
            self._retry(lambda: load_checkpoint(trainer, Path(str(checkpoint))), "read")
            self._epoch = trainer.epoch

    def cleanup(self) -> None:
        """Frees the trial and its data."""
        self._trainer = self._data = None

    def _start(self, config: dict[str, Any]) -> None:
        self._trainer = None
        self._failure = ""
        self._epoch = 0
        self._plugins = plugins_in(config["settings"] | {"metric": self._metric})
        self._identity = {name: config[name] for name in ("trial", "attempt") if name in config}
        with ExitStack() as stack:
            resume_from = config["resume_from"]
            checkpoint = stack.enter_context(local_copy(resume_from)) if resume_from is not None else None
            self._attempt(lambda: self._build(config))
            if checkpoint is not None:
                self.load_checkpoint(str(checkpoint))

    def _build(self, config: dict[str, Any]) -> None:
        torch.set_num_threads(self._threads)
        settings = TrialSettings(**config["settings"])
        fold = config.get("fold", 0)
        if self._data is None or fold != self._fold:
            self._data = None  # frees its memory for that of the other fold
            self._data, self._fold = DeviceDataset(self._dataset.fold(fold), find_device(self._device)), fold
        self._trainer = Trainer(settings, self._data, self._metric)

    def _save(self, checkpoint_dir: str, storage: StorageContext) -> Any:
        before = storage.current_checkpoint_index
        try:
            return super().save(checkpoint_dir)
        except (OSError, RuntimeError) as error:
            storage.current_checkpoint_index = before  # the driver counts only those that were stored
            if isinstance(error, OSError) or "cluster storage" not in str(error):
                raise
            lacks = f"this machine does not see {storage.trial_fs_path}: mount the storage on every node"
            raise OSError(lacks) from error

    def _retry(self, work: Callable[[], Result], done: str) -> Result:
        """Calls `work`, with retries while the storage fails; meanwhile the driver can ask who waits, and why.

        `done` is what happens to the checkpoint: `read` or `written`.
        """
        key = f"{self._waits}/{self._identity.get('trial')}/{self._identity.get('attempt')}"
        noted: list[str] = []

        def note(reason: str) -> None:
            noted.append(reason)
            with suppress(Exception):  # the storage is the trouble, not the note
                _internal_kv_put(key, f"cannot be {done}: {reason}".encode(), namespace=_WAITS)

        try:
            return retry_with_backoff(work, note if self._waits else None)
        finally:
            if noted:
                with suppress(Exception):
                    _internal_kv_del(key, namespace=_WAITS)

    def _attempt(self, work: Callable[[], object]) -> None:
        """Calls `work`; an error ends the trial and is kept as the reason.

        Raises:
            torch.AcceleratorError: any but out of memory; whatever this process did next on the GPU would fail too.
        """
        try:
            work()
        except Exception as error:
            if isinstance(error, torch.AcceleratorError) and getattr(error, "error_code", None) != CUDA_OUT_OF_MEMORY:
                raise
            logger.exception("trial failed")
            self._failure = failure_reason(error, self._plugins)
            self._trainer = None
        if self._trainer is None and torch.cuda.is_available():
            torch.cuda.empty_cache()  # the next trial in this process may need what this one held


def waiting_trials(waits: str) -> dict[tuple[int, int], str]:
    """Returns why trials of a run wait for the storage, by trial and attempt; also of workers that died waiting."""
    found: dict[tuple[int, int], str] = {}
    if not _internal_kv_initialized():  # type: ignore[no-untyped-call]
        return found
    for key in _internal_kv_list(f"{waits}/", namespace=_WAITS):
        reason = _internal_kv_get(key, namespace=_WAITS)
        _, trial, attempt = key.decode().split("/")
        if reason is not None:
            found[int(trial), int(attempt)] = reason.decode()
    return found


def pack_answers(correct: Tensor) -> str:
    """Returns which answers are right, [M] bool, as base64 of `numpy.packbits`: a bit for each image."""
    return base64.b64encode(np.packbits(correct.cpu().numpy()).tobytes()).decode()


def failure_reason(error: Exception, plugins: Mapping[str, PluginKind] | None = None) -> str:
    """Returns an error in one line, with its class unless the message alone explains it.

    It names the plug-in that the error came from, or else those that the trial used.
    """
    if plugins and not isinstance(error, PluginError | NetworkError) and (blamed := blamed_plugin(error, plugins)):
        return blamed[:MAX_REASON_LENGTH]
    message = " ".join(str(error).split())
    line = message if isinstance(error, _SELF_EXPLAINING) else f"{type(error).__name__}: {message}"
    used = f" (with {in_words(plugins)})" if plugins and not any(name in line for name in plugins) else ""
    return line[: MAX_REASON_LENGTH - len(used)] + used
