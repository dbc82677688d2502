"""A GPU that does not exist: its tensors have shapes and devices but no values, and every operation is recorded.

`FakeTensorMode` takes the device "cuda" without a GPU. Only autograd's engine asks for a real one: `fake_cuda` puts
zeros in place of the gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainables.training import Trainer

HOST_READS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique2", "_unique2")
IN_PLACE = ("_fused_sgd_", "_fused_adamw_", "_amp_foreach_non_finite_check_and_unscale_", "_amp_update_scale_")
CUDA = torch.device("cuda")


class CudaGenerator(torch.Generator):
    """The CPU's generator in place of the GPU's: fake tensors take no numbers from it."""

    device = CUDA


class Recorder(TorchDispatchMode):
    """Records the operations within it, and those of them for which a GPU would wait for the host.

    Attributes:
        calls: name and Python numbers of every operation, in order.
        waits: descriptions of the operations that read a value on the host or move a tensor between devices.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[str, tuple[object, ...]]] = []
        self.waits: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs one operation and looks at it, even where it raises because a value is asked for."""
        name = func.__name__.partition(".")[0]
        leaves = tree_leaves((args, kwargs))
        numbers = tuple(leaf for leaf in leaves if isinstance(leaf, bool | int | float))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        self.calls.append((name, numbers))
        masks = name in ("index", "index_put", "index_put_") and any(
            tensor.dtype in (torch.bool, torch.uint8) for tensor in tree_leaves(args[1]) if isinstance(tensor, Tensor)
        )
        if name in HOST_READS or masks:
            self.waits.append(f"{name} reads values on the host")
        # These work in place and return nothing that is used; they have kernels for real devices only.
        result = None if name in IN_PLACE else func(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        devices = {tensor.device.type for tensor in (*tensors, *made)}
        if len(devices) > 1:
            self.waits.append(f"{name} takes {_places(tensors)} and makes {_places(made)}")
        return result


@contextmanager
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """Records what is run within it; a device "cuda" exists there, which computes in bfloat16 too."""

    def zero_gradients(loss: Tensor) -> None:
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)

    parameters: list[Tensor] = []
    build = Trainer.__init__

    def build_and_keep(trainer: Trainer, *args: Any) -> None:
        build(trainer, *args)
        parameters.extend(trainer.network.parameters())

    def generator(trainer: Trainer, stream: int) -> torch.Generator:
        return CudaGenerator().manual_seed(stream)

    monkeypatch.setattr(Trainer, "__init__", build_and_keep)
    monkeypatch.setattr(Trainer, "_generator", generator)
    monkeypatch.setattr(torch.autograd, "backward", zero_gradients)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    with FakeTensorMode(), Recorder() as recorder:
        yield recorder


def _places(tensors: list[Tensor]) -> str:
    return ", ".join(f"{list(tensor.shape)} on {tensor.device.type}" for tensor in tensors) or "nothing"
