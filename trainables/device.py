"""The device that a trial runs on: the data on it, torch's backends, memory, layout and precision.

Only the CPU's part of this has been run; the rest follows torch's documentation of CUDA and MPS.
`benchmarks/step_time.py` measures what each costs or saves.
"""

from __future__ import annotations

import ctypes
import platform

import numpy as np
import torch
import torch.utils.deterministic
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.data import Dataset
from trainables.data.streaming import AnyImages, ImagesOnDisk
from trainables.errors import DeviceError
from trainables.settings import DeviceName, Precision

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt
_MAX_TRIM_THRESHOLD = 2**31 - 1  # bytes
_MAX_MMAP_THRESHOLD = 32 * 2**20  # bytes; glibc accepts no more


class DeviceDataset:
    """The arrays of a `Dataset` as tensors on one device; images on disk stay there (see `trainables.batches`).

    Attributes:
        device: of all tensors.
        num_classes: K.
        train_images: [N, H, W, C] uint8.
        train_labels: [N] int64, as given: noisy.
        validation_images: [M, H, W, C] uint8.
        validation_labels: [M] int64.
        validation_noisy_labels: [M] int64 as in the data, where `validation_labels` are verified; else None.
        is_clean: [N] float32, 1 where the training label is the clean one; None if that is unknown.
    """

    def __init__(self, dataset: Dataset, device: torch.device | str) -> None:
        """Copies a dataset, whose arrays may be read-only views, to the device."""
        self.device = torch.device(device)
        self.num_classes = len(dataset.class_names)
        self.train_images = images_on(self.device, dataset.train_images)
        self.train_labels = self._copy(dataset.train_labels)
        self.validation_images = images_on(self.device, dataset.validation_images)
        self.validation_labels = self._copy(dataset.validation_labels)
        noisy = dataset.validation_noisy_labels
        self.validation_noisy_labels = None if noisy is None else self._copy(noisy)
        self.is_clean: Tensor | None = None
        if dataset.train_clean_labels is not None:
            self.is_clean = (self.train_labels == self._copy(dataset.train_clean_labels)).float()

    @property
    def in_channels(self) -> int:
        """Channels of an image."""
        return self.train_images.shape[3]

    def _copy(self, labels: NDArray[np.int64]) -> Tensor:
        return torch.tensor(labels, device=self.device)


def images_on(device: torch.device, images: AnyImages) -> Tensor | ImagesOnDisk:
    """Copies images to a device; those on disk stay there."""
    return images if isinstance(images, ImagesOnDisk) else torch.tensor(images, device=device)


def find_device(name: DeviceName = "auto") -> torch.device:
    """Returns the device of a name; `auto` is a CUDA GPU if there is one, else the CPU.

    Raises DeviceError if the device is not on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device cuda is not there: torch finds no CUDA GPU on this machine; use auto or cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device mps is not there: torch finds no Apple GPU on this machine; use auto or cpu")
    return torch.device(name)


def configure_backends(device: torch.device, precision: Precision) -> None:
    """Configures torch for the whole process: reproducible results on a CPU, the fastest kernels on a GPU.

    By torch's own default convolutions on a GPU are in TF32; here they are so with the precision `tf32` alone.
    """
    on_cuda = device.type == "cuda"
    on_cpu = device.type == "cpu"
    torch.use_deterministic_algorithms(on_cpu)
    # Filling fresh memory only helps to find operations that read it before writing, and takes a third of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = on_cuda  # batches are all of one size, so the fastest kernels can be tried out
    fp32_precision = "tf32" if precision == "tf32" else "ieee"
    torch.backends.cudnn.conv.fp32_precision = fp32_precision  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = fp32_precision
    if on_cpu:
        _keep_freed_memory()


def channels_last(network: nn.Module) -> nn.Module:
    """Lays out convolution kernels channels-last, the fastest layout, and returns the same network.

    `network.to(memory_format=…)` does not work within `FakeTensorMode`.
    """
    for parameter in network.parameters():
        if parameter.dim() == 4:
            # Copied, because `contiguous` leaves kernels for one channel as they are: both layouts are one to it.
            laid_out = torch.empty_like(parameter.data, memory_format=torch.channels_last)
            parameter.data = laid_out.copy_(parameter.data)
    return network


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Returns the context for a network's forward pass, in bfloat16, float16 or float32.

    "auto" is bfloat16 on GPUs that compute in it, and float32 elsewhere. "fp16" is for CUDA: on a CPU float16 takes
    fifty times as long as float32, which is used instead. `configure_backends` switches TF32.
    """
    if precision == "auto":
        in_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        in_bfloat16 = precision == "bf16"
    in_float16 = precision == "fp16" and device.type == "cuda"
    dtype = torch.float16 if in_float16 else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=in_bfloat16 or in_float16)


def _keep_freed_memory() -> None:
    """Lets the process keep the memory that a step frees, for the next step.

    By default glibc returns large blocks to the system at once, which hands them out again page by page, zeroed: up
    to a third of a forward pass. The process then keeps the most it has ever used. Without glibc nothing is changed.
    """
    if platform.libc_ver()[0] == "glibc":
        c_library = ctypes.CDLL(None)
        c_library.mallopt(_M_TRIM_THRESHOLD, _MAX_TRIM_THRESHOLD)
        c_library.mallopt(_M_MMAP_THRESHOLD, _MAX_MMAP_THRESHOLD)
