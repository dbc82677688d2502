"""One trial's training: epochs of MentorMix steps, evaluation, and the state that a checkpoint holds.

`trainables.objective` computes the loss, `trainables.optimizers` changes the weights, and `trainables.weights` keeps
their EMA and the best so far.
Within an epoch the host reads nothing from the device: metrics are summed there and read once at the end.
"""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from trainables.augment import find_augmentation
from trainables.batches import batches_at, batches_in_order
from trainables.data import Dataset
from trainables.data.streaming import ImagesOnDisk
from trainables.device import DeviceDataset, autocast, channels_last, configure_backends, find_device
from trainables.errors import TrainingDiverged
from trainables.metrics import TOP, class_metrics, own_metric
from trainables.models import build_network
from trainables.objective import MentorMixObjective
from trainables.optimizers import TrialOptimizer
from trainables.plugins import is_plugin
from trainables.schedules import ema_decay
from trainables.settings import OWN_METRIC, DeviceName, TrialSettings, metric_key
from trainables.weights import BestWeights, ExampleWeights, ModelEMA

EVALUATION_BATCH = 250  # small enough that evaluation needs no more memory than training
_ORDER_STREAM, _MIXING_STREAM, _AUGMENTATION_STREAM = 1, 2, 3  # separate: mixing does not change the order


class Evaluation(NamedTuple):
    """Scores of a network on a set of images; the tensors stay on the trainer's device."""

    accuracy: float  # fraction of the images, 0 … 1
    loss: float  # mean cross-entropy, nats
    top5_accuracy: float  # fraction of the images whose label is among the five most probable classes
    predicted: Tensor  # [M] int64, the most probable class
    correct: Tensor  # [M] bool, whether that is the label; ties count as in the accuracy
    probabilities: Tensor  # [M, K] float16


class Trainer:
    """Trains one network with MentorMix, epoch by epoch.

    Equal settings and data give equal results, bit for bit on a CPU with a fixed number of threads: building a
    trainer seeds torch's global generator and configures torch's backends, both for the whole process.

    Attributes:
        network: with the weights being trained, not their average.
        epoch: epochs done.
        metrics: those of the last epoch; empty before the first.
        validation: the evaluation of the last epoch on the validation images; None before the first.
        best: the weights of the best epoch so far. Without validation images both stay empty.
        example_weights: how much the mentor let each training image count.
    """

    def __init__(self, settings: TrialSettings, data: DeviceDataset, metric: str = "val_accuracy") -> None:
        """Builds the network, the optimizer and the objective, at step 0.

        `metric` tells which epoch is the best, by its name or that of a plug-in.

        Raises:
            ValueError: if a batch is larger than the training set, or the network cannot be built.
        """
        train_size = len(data.train_labels)
        if settings.batch_size > train_size:
            raise ValueError(
                f"batch_size must be at most the number of training images, {train_size}, got {settings.batch_size}"
            )
        self.settings = settings
        self.data = data
        self.epoch = 0
        self.metrics: dict[str, float] = {}
        self.validation: Evaluation | None = None
        self.best = BestWeights(metric_key(metric))
        self._metric = metric

        self._augment = find_augmentation(settings.augmentation)
        self._steps_per_epoch = train_size // settings.batch_size
        self._steps = settings.epochs * self._steps_per_epoch

        configure_backends(data.device, settings.precision)
        torch.manual_seed(settings.seed)
        self._order_generator = self._generator(_ORDER_STREAM)
        self._augmentation_generator = self._generator(_AUGMENTATION_STREAM)

        with data.device:
            self.network = channels_last(build_network(settings, data.num_classes, data.in_channels))
        self._ema = ModelEMA(self.network) if settings.ema > 0 else None
        self._optimizer = TrialOptimizer(settings, self.network, self._steps)
        # A scalar on the device: a step, captured in a graph, reads what was written here before it.
        self._ema_weight = torch.zeros((), device=data.device)
        self._autocast = autocast(settings.precision, data.device)
        self._objective = MentorMixObjective(
            settings, self.network, data.num_classes, self._steps, self._generator(_MIXING_STREAM)
        )
        self.example_weights = ExampleWeights(settings, train_size, self._steps, data.device)

    def train_epoch(self) -> dict[str, float]:
        """Trains for one epoch and evaluates on the validation images, if there are any.

        The images are shuffled every epoch; a last batch that is not full is left out.

        Returns:
            `val_accuracy`, `val_loss` (nats), `balanced_accuracy`, `macro_f1`, from six classes on `top5_accuracy`,
            and `own_metric` of a plug-in, if there are validation images; `train_loss`, the mean of the objective;
            `mean_weight` of the examples (step 3); `epoch`, epochs done; `epoch_seconds`, with evaluation;
            `images_per_second` of training alone; if the validation labels are verified, `noisy_val_accuracy`, that
            on the noisy labels of the same images; and, if clean labels are known, `selected_clean_fraction`, the
            fraction of all weight that lies on clean labels (0 if no example had any).

        Raises:
            TrainingDiverged: if the training or the validation loss, or the weight of the examples, is not finite.
            PluginError: if a metric of the user's own raises or returns no finite number.
        """
        started = time.perf_counter()
        totals = torch.zeros(3, device=self.data.device)
        first_step = self.epoch * self._steps_per_epoch
        order = self._order()
        batches = batches_at(self.data.train_images, order, self.data.device, self._reading_threads)
        for offset, (batch_index, batch) in enumerate(zip(order, batches, strict=True)):
            totals += self.train_step(first_step + offset, batch_index, batch)
        loss_sum, weight_sum, clean_weight_sum = totals.tolist()
        trained_seconds = time.perf_counter() - started

        self.epoch += 1
        train_loss = self._finite("train_loss", loss_sum / self._steps_per_epoch)
        self.validation = self._validate()
        images = self._steps_per_epoch * self.settings.batch_size
        self.metrics = {}
        if self.validation:
            val_loss = self._finite("val_loss", self.validation.loss)
            self.metrics |= {"val_accuracy": self.validation.accuracy, "val_loss": val_loss}
            self.metrics |= self._other_metrics(self.validation)
            if (noisy := self.data.validation_noisy_labels) is not None:
                self.metrics["noisy_val_accuracy"] = (self.validation.predicted == noisy).double().mean().item()
        self.metrics |= {
            "train_loss": train_loss,
            "mean_weight": self._finite("mean_weight", weight_sum / images),
            "epoch": self.epoch,
            "epoch_seconds": time.perf_counter() - started,
            "images_per_second": images / trained_seconds,
        }
        if self.data.is_clean is not None:
            self.metrics["selected_clean_fraction"] = clean_weight_sum / weight_sum if weight_sum > 0 else 0.0
        if self.validation:
            self.best.update(self.metrics, self.weights())
        return dict(self.metrics)

    def _other_metrics(self, validation: Evaluation) -> dict[str, float]:
        labels, predicted = (part.cpu().numpy() for part in (self.data.validation_labels, validation.predicted))
        metrics = class_metrics(labels, predicted, self.data.num_classes)
        if self.data.num_classes > TOP:
            metrics["top5_accuracy"] = validation.top5_accuracy
        if is_plugin(self._metric):
            probabilities = validation.probabilities.float().cpu().numpy()
            metrics[OWN_METRIC] = own_metric(self._metric, labels.copy(), probabilities)
        return metrics

    def train_step(self, step: int, batch_index: Tensor, images: Tensor | None = None) -> Tensor:
        """Runs one MentorMix step, numbered as in `docs/method.md`; reads no tensor on the host.

        Args:
            step: 0 … steps of the whole trial − 1.
            batch_index: [B] int64, which training images.
            images: [B, H, W, C] uint8, these images on the device; read here if they are not given.

        Returns:
            [3]: the loss, the sum of the examples' weights, and the part of that sum on clean labels.
        """
        self._schedule(step)
        if images is None:
            (images,) = batches_at(self.data.train_images, [batch_index], self.data.device, 1)
        inputs = normalize(self._augment(to_float(images), self._augmentation_generator))
        labels = self.data.train_labels.index_select(0, batch_index)
        loss, weights = self._objective(step, inputs, labels)  # 1 to 7
        self.example_weights.add(step, batch_index, weights)
        self._optimizer.step(loss)  # 8
        if self._ema is not None:  # 9
            self._ema.update(self._ema_weight)

        is_clean = self.data.is_clean
        on_clean = weights if is_clean is None else weights * is_clean.index_select(0, batch_index)
        return torch.stack([loss.detach(), weights.sum(), on_clean.sum()])

    @torch.no_grad()
    def evaluate(self, images: Tensor | ImagesOnDisk, labels: Tensor) -> Evaluation:
        """Evaluates the averaged weights, with the ordinary running statistics.

        Args:
            images: [M, H, W, C] uint8, M at least 1, on the trainer's device or on disk.
            labels: [M] int64, on the device.
        """
        self.network.eval()
        totals = torch.zeros(3, device=self.data.device)
        predicted, correct, probabilities = [], [], []
        batches = batches_in_order(images, EVALUATION_BATCH, self.data.device, self._reading_threads)
        for batch_images, batch_labels in zip(batches, torch.split(labels, EVALUATION_BATCH), strict=True):
            inputs = normalize(to_float(batch_images))
            with self._autocast:
                logits = functional_call(self.network, self._averaged_weights(), (inputs,)).float()
            losses = cross_entropy(logits, batch_labels, reduction="sum")
            predicted.append(logits.argmax(dim=1))
            correct.append(predicted[-1] == batch_labels)
            probabilities.append(logits.softmax(dim=1).half())
            better = (logits > logits.gather(1, batch_labels[:, None])).sum(dim=1)
            totals += torch.stack([correct[-1].sum(), losses, (better < TOP).sum()])
        self.network.train()
        correct_count, loss_sum, top5_count = totals.tolist()
        scores = correct_count / len(labels), loss_sum / len(labels), top5_count / len(labels)
        return Evaluation(*scores, torch.cat(predicted), torch.cat(correct), torch.cat(probabilities))

    def weights(self) -> dict[str, Tensor]:
        """Returns the weights as evaluation uses them: trained ones averaged, running statistics as they are."""
        return {**self.network.state_dict(), **self._averaged_weights()}

    def state_dict(self) -> dict[str, Any]:
        """Returns all that a fresh trainer of the same settings and data needs to continue bit-identically.

        Tensors, plain numbers, lists and dictionaries only, sharing memory with the trainer.
        """
        return {
            "epoch": self.epoch,
            "metrics": self.metrics,
            "best": self.best.state_dict(),
            "network": self.network.state_dict(),
            "average": self._averaged_weights(),
            **self._optimizer.state_dict(),
            "objective": self._objective.state_dict(),
            "example_weights": self.example_weights.state_dict(),
            "order_generator": self._order_generator.get_state(),
            "augmentation_generator": self._augmentation_generator.get_state(),
            "torch_generator": torch.get_rng_state(),
            "cuda_generator": torch.cuda.get_rng_state(self.data.device) if self.data.device.type == "cuda" else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a saved state; the evaluation of its epoch is not in it, and is made again.

        Raises:
            KeyError, RuntimeError, ValueError: if it is not the state of such a trainer, which is then unusable.
        """
        self.epoch = state["epoch"]
        self.metrics = state["metrics"]
        self.network.load_state_dict(state["network"])
        self.best.load_state_dict(state["best"], self.data.device)
        if self._ema is not None:
            self._ema.load(state["average"])
        self._optimizer.load_state_dict(state)
        self._objective.load_state_dict(state["objective"])
        if "example_weights" in state:  # not in checkpoints of version 0.1.0, whose trials then count from here on
            self.example_weights.load_state_dict(state["example_weights"])
        self._order_generator.set_state(state["order_generator"])
        self._augmentation_generator.set_state(state["augmentation_generator"])
        torch.set_rng_state(state["torch_generator"])
        if self.data.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_generator"], self.data.device)
        if self.epoch:
            self.validation = self._validate()

    def _validate(self) -> Evaluation | None:
        images, labels = self.data.validation_images, self.data.validation_labels
        return self.evaluate(images, labels) if len(labels) else None

    def _order(self) -> tuple[Tensor, ...]:
        """Returns the epoch's batches: indices [B] of training images, each image at most once."""
        order = torch.randperm(len(self.data.train_labels), generator=self._order_generator, device=self.data.device)
        batch_size = self.settings.batch_size
        return torch.split(order[: self._steps_per_epoch * batch_size], batch_size)

    @property
    def _reading_threads(self) -> int:
        """Threads that read images from disk: as many as the trial has cores."""
        return torch.get_num_threads()

    def _schedule(self, step: int) -> None:
        """Writes what a step depends on, besides its images, to the device: filling a scalar waits for nothing."""
        self._optimizer.schedule(step)
        if self._ema is not None:
            self._ema_weight.fill_(1 - ema_decay(self.settings.ema, step, self._steps))

    def _averaged_weights(self) -> dict[str, Tensor]:
        return {} if self._ema is None else self._ema.weights

    def _finite(self, name: str, loss: float) -> float:
        if not math.isfinite(loss):
            raise TrainingDiverged(f"{name} is {loss} in epoch {self.epoch}")
        return loss

    def _generator(self, stream: int) -> torch.Generator:
        """Returns a seeded generator on the device; for the mixing on the CPU if the device lacks float64."""
        lacks_float64 = self.data.device.type == "mps" and stream == _MIXING_STREAM
        device = torch.device("cpu") if lacks_float64 else self.data.device
        return torch.Generator(device).manual_seed(self.settings.seed + stream * 2**31)


def begin_training(settings: TrialSettings, dataset: Dataset, threads: int, device: DeviceName = "auto") -> Trainer:
    """Returns a trainer at step 0; `threads`, for torch on a CPU, hold for the process.

    Raises DeviceError if the device is not there.
    """
    torch.set_num_threads(threads)
    return Trainer(settings, DeviceDataset(dataset, find_device(device)))


def to_float(images: Tensor) -> Tensor:
    """Converts images [B, H, W, C] uint8 to [B, C, H, W] float32 in [0, 1]."""
    return images.permute(0, 3, 1, 2).float().div(255)


def normalize(images: Tensor) -> Tensor:
    """Scales pixels [B, C, H, W] from [0, 1] to [−1, 1], channels-last."""
    return images.mul(2).sub(1).contiguous(memory_format=torch.channels_last)


def time_one_epoch(
    settings: dict[str, Any], dataset: Dataset, threads: int, device: DeviceName = "auto"
) -> tuple[int, float]:
    """Trains for one epoch, in which every step has both passes, to learn what an epoch costs.

    Args:
        settings: of a trial.
        dataset: to train on.
        threads: of torch on a CPU.
        device: to train on.

    Returns:
        The parameters of the network, and the seconds that the epoch took with its evaluation.
    """
    trainer = begin_training(TrialSettings(**(settings | {"burn_in": 0.0})), dataset, threads, device)
    parameters = sum(parameter.numel() for parameter in trainer.network.parameters())
    return parameters, trainer.train_epoch()["epoch_seconds"]
