"""What a trial makes of the device it runs on: torch's switches, memory, its layout, and the precision.

Only the CPU's part of this has been run; the rest follows torch's documentation of CUDA. What each costs or saves
is for `benchmarks/step_time.py` to say.
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
from trainables.settings import Precision

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt
_LARGEST_TRIM_THRESHOLD = 2**31 - 1  # bytes
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # bytes; glibc accepts no more


def default_device() -> torch.device:
    """A GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def set_switches(device: torch.device) -> None:
    """Set switches for the whole process: reproducible results on a CPU, the fastest kernels on a GPU."""
    on_cuda = device.type == "cuda"
    torch.use_deterministic_algorithms(not on_cuda)
    # Filling fresh memory only helps to find operations that read it before writing, and takes a third of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = on_cuda  # batches are all of one size, so the fastest kernels can be tried out
    if not on_cuda:
        _keep_freed_memory()


def channels_last(network: nn.Module) -> nn.Module:
    """Lay convolution kernels out as the fastest algorithms of CPUs and GPUs want them, and as images lie already.

    Returns:
        The same network; `network.to(memory_format=…)` would not do within `FakeTensorMode`.
    """
    for parameter in network.parameters():
        if parameter.dim() == 4:
            # Copied, because `contiguous` leaves kernels for one channel as they are: both layouts are one to it.
            laid_out = torch.empty_like(parameter.data, memory_format=torch.channels_last)
            parameter.data = laid_out.copy_(parameter.data)
    return network


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """A context for a network's forward pass, in which it computes in bfloat16 or, where that is off, in float32.

    Args:
        precision: "auto" is bfloat16 on GPUs that compute in it, and float32 elsewhere.
        device: where the network lies.
    """
    if precision == "auto":
        in_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        in_bfloat16 = precision == "bf16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=in_bfloat16)


def _keep_freed_memory() -> None:
    """Let the process keep what a step frees, for the next step to use.

    By default glibc gives large blocks back to the system at once, which hands them out again page by page, zeroed:
    up to a third of a forward pass. The most that the process has ever used stays with it. Nothing is done
    where there is no glibc.
    """
    if platform.libc_ver()[0] == "glibc":
        c_library = ctypes.CDLL(None)
        c_library.mallopt(_M_TRIM_THRESHOLD, _LARGEST_TRIM_THRESHOLD)
        c_library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)


class DeviceDataset:
    """The tensors of a `Dataset`, all on one device.

    Attributes:
        device: where everything lies.
        num_classes: K.
        train_images: [N, H, W, C] uint8.
        train_labels: [N] int64, as given: noisy.
        validation_images: [M, H, W, C] uint8.
        validation_labels: [M] int64.
        is_clean: [N] float32, 1 where the training label is the clean one; None where that is unknown.
    """

    def __init__(self, dataset: Dataset, device: torch.device | str) -> None:
        """Copy `dataset`, whose arrays may be read-only views, to `device`."""
        self.device = torch.device(device)
        self.num_classes = len(dataset.class_names)
        self.train_images = self._copy(dataset.train_images)
        self.train_labels = self._copy(dataset.train_labels)
        self.validation_images = self._copy(dataset.validation_images)
        self.validation_labels = self._copy(dataset.validation_labels)
        self.is_clean: Tensor | None = None
        if dataset.train_clean_labels is not None:
            self.is_clean = (self.train_labels == self._copy(dataset.train_clean_labels)).float()

    @property
    def in_channels(self) -> int:
        """C."""
        return self.train_images.shape[3]

    def _copy(self, array: NDArray[np.uint8] | NDArray[np.int64]) -> Tensor:
        return torch.tensor(array, device=self.device)
