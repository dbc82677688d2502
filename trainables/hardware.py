"""What a trial makes of the device it runs on: torch's switches, the memory layout, and the precision.

Only the CPU's part of this has been run; the rest follows torch's documentation of CUDA.
"""

from __future__ import annotations

import torch
import torch.utils.deterministic
from torch import nn

from trainables.settings import Precision


def set_switches(device: torch.device) -> None:
    """Set torch's switches for the whole process: reproducible results on a CPU, the fastest kernels on a GPU."""
    on_cuda = device.type == "cuda"
    torch.use_deterministic_algorithms(not on_cuda)
    # Filling fresh memory only helps to find operations that read it before writing, and takes a third of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = on_cuda  # batches are all of one size, so the fastest kernels can be tried out


def lay_out(network: nn.Module, device: torch.device) -> None:
    """Store convolution kernels on a GPU channels-last, as its tensor cores want them; images lie so already."""
    if device.type == "cuda":
        network.to(memory_format=torch.channels_last)


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
