"""What pretrained networks need besides their layers: their input, a new head, and weights from a file."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import interpolate

from trainables.errors import NetworkError, one_line

AUXILIARY_HEADS = ("aux1", "aux2", "AuxLogits")  # of GoogLeNet and Inception, which would return several logits
_CLASSIFIER = "classifier."  # before the names of an `ImageClassifier`'s own weights

logger = logging.getLogger(__name__)


class ImageClassifier(nn.Module):
    """A classifier that takes images in [−1, 1] and applies the size and normalization of its weights.

    Images are resized as a whole, not cropped, and grey ones repeated to three channels.

    Attributes:
        classifier: the network itself.
        heads: names of its layers that give the logits.
    """

    _scale: Tensor
    _shift: Tensor

    def __init__(
        self,
        classifier: nn.Module,
        size: tuple[int, int],
        mean: Sequence[float],
        deviation: Sequence[float],
        mode: str = "bilinear",
        heads: tuple[str, ...] = (),
    ) -> None:
        """Adds the resizing to `size` by interpolation `mode`, and the normalization, in front of `classifier`.

        `mean` and `deviation` are those of each channel over the pretraining images, in [0, 1].
        """
        super().__init__()
        self.classifier = classifier
        self.heads = tuple(_CLASSIFIER + head for head in heads)
        self._size = size
        self._mode = mode
        # [−1, 1] → [0, 1] → mean 0 and deviation 1 over the pretraining images, in one step.
        means, deviations = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, deviation))
        self.register_buffer("_scale", 0.5 / deviations, persistent=False)
        self.register_buffer("_shift", (0.5 - means) / deviations, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 1 or 3, H, W] in [−1, 1] → logits [B, K]."""
        if images.shape[-2:] != self._size:
            images = interpolate(images, size=self._size, mode=self._mode, antialias=True)
            if self._mode == "bicubic":
                images = images.clamp(-1, 1)  # it overshoots at edges
        logits: Tensor = self.classifier(images * self._scale + self._shift)
        return logits


def head_names(network: nn.Module) -> tuple[str, ...]:
    """Returns the names of the layers that give the logits: the last dense layer or convolution, if there is any."""
    if isinstance(network, ImageClassifier) and network.heads:
        return network.heads
    layers = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    return tuple(layers[-1:])


def replace_head(classifier: nn.Module, num_classes: int) -> str:
    """Replaces the head by a new one for K classes, and returns its name."""
    (name,) = head_names(classifier)
    old = classifier.get_submodule(name)
    if isinstance(old, nn.Linear):
        classifier.set_submodule(name, nn.Linear(old.in_features, num_classes, bias=old.bias is not None))
    elif isinstance(old, nn.Conv2d):
        classifier.set_submodule(name, nn.Conv2d(old.in_channels, num_classes, kernel_size=1))
    return name


def load_weights(network: nn.Module, name: str, path: Path) -> None:
    """Loads the weights of a network from a file; a head for other classes is left out, which is logged.

    The file is one of safetensors, such as the `model.safetensors` of an export, or of `torch.save`: the state of the
    network called `name`, by this project's names or by those of torchvision or timm. Nothing in it is executed.
    Raises NetworkError if it cannot be read or does not fit.
    """
    weights, own = _read(path), network.state_dict()
    if isinstance(network, ImageClassifier) and not all(key.startswith(_CLASSIFIER) for key in weights):
        weights = {_CLASSIFIER + key: weight for key, weight in weights.items() if _first(key) not in AUXILIARY_HEADS}
    heads = head_names(network)
    head = {key for key in own if key.rpartition(".")[0] in heads}
    is_of_other_classes = any(key not in weights or weights[key].shape != own[key].shape for key in head)
    if is_of_other_classes:
        weights = {key: weight for key, weight in weights.items() if key not in head}
    wanted = {key for key in own if not key.endswith(".num_batches_tracked")}  # which old files lack
    problem = _misfit(weights, own, wanted - head if is_of_other_classes else wanted)
    if problem:
        raise NetworkError(f"weights {path} are not those of network {name}: {problem}")
    network.load_state_dict(weights, strict=False)
    if is_of_other_classes:
        logger.warning("weights %s have no head for these classes: a new one is trained", path)


def _first(key: str) -> str:
    return key.partition(".")[0]


def _misfit(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], wanted: set[str]) -> str | None:
    """Returns in what weights differ from those of a network, of which they must hold the wanted; None: they fit."""
    for key in sorted(weights.keys() - own.keys()):
        return f"{key} is none of its"
    for key in sorted(wanted - weights.keys()):
        return f"{key} is missing"
    for key, weight in weights.items():
        if weight.shape != own[key].shape:
            return f"{key} has the shape {list(weight.shape)}, not {list(own[key].shape)}"
    return None


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise NetworkError(f"weights {path} cannot be read: {one_line(error)}") from error
    except (SafetensorError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise NetworkError(
            f"weights {path} are damaged, or neither a .safetensors file nor tensors that torch.save wrote"
        ) from error
    tensors = dict(content) if isinstance(content, Mapping) else {}
    if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise NetworkError(f"weights {path} are no tensors by name: write them with torch.save(network.state_dict())")
    return {str(key): tensor for key, tensor in tensors.items()}
