"""torchvision's classification networks, from scratch or pretrained, for images in [−1, 1].

Fine-tuning a pretrained network is the first recommendation of Jiang et al. (2020) for noisy labels. A separate
module, so that other trials do not wait for torchvision to be imported.
"""

from __future__ import annotations

import pickle
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, hub, nn
from torch.nn.functional import interpolate
from torchvision import models

from trainables.errors import NetworkError
from trainables.settings import TORCHVISION_PREFIX

_AUXILIARY_HEADS = ("aux1", "aux2", "AuxLogits")  # of GoogLeNet and Inception, which would return several logits


class TorchvisionModel(nn.Module):
    """A classifier that takes images in [−1, 1] and applies the size and normalization of its weights' transforms.

    Images are resized as a whole, not cropped, and grey ones repeated to three channels.
    """

    _scale: Tensor
    _shift: Tensor

    def __init__(self, classifier: nn.Module, transforms: Any) -> None:
        """Adds `transforms`, an `ImageClassification` of torchvision, in front of `classifier`."""
        super().__init__()
        self.classifier = classifier
        self._side = transforms.crop_size[0]  # pixels
        # [−1, 1] → [0, 1] → mean 0 and deviation 1 over the pretraining images, in one step.
        mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (transforms.mean, transforms.std))
        self.register_buffer("_scale", 0.5 / deviation, persistent=False)
        self.register_buffer("_shift", (0.5 - mean) / deviation, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 1 or 3, H, W] in [−1, 1] → logits [B, K]."""
        if images.shape[-2:] != (self._side, self._side):
            images = interpolate(images, size=(self._side, self._side), mode="bilinear", antialias=True)
        logits: Tensor = self.classifier(images * self._scale + self._shift)
        return logits


def build_torchvision_model(name: str, pretrained: bool, num_classes: int, in_channels: int) -> nn.Module:
    """Builds the network `torchvision/…` with a new head, which is never pretrained.

    Raises NetworkError if torchvision has no such network, its weights are unavailable, or `in_channels` is neither
    1 nor 3.
    """
    if in_channels not in (1, 3):
        raise NetworkError(f"network {name} takes images of 1 or 3 channels, got {in_channels}")
    check_torchvision_model(name, pretrained)
    short_name = name.removeprefix(TORCHVISION_PREFIX)
    weights = models.get_model_weights(short_name).DEFAULT
    classifier = models.get_model(short_name, weights=weights if pretrained else None, progress=False)
    for head in _AUXILIARY_HEADS:
        if hasattr(classifier, head):
            setattr(classifier, head, None)
            classifier.aux_logits = False
    _replace_head(classifier, num_classes)
    return TorchvisionModel(classifier, weights.transforms())


def check_torchvision_model(name: str, pretrained: bool) -> None:
    """Raises NetworkError unless a network of torchvision can be built; downloads its weights if they are wanted."""
    known = models.list_models(module=models)
    short_name = name.removeprefix(TORCHVISION_PREFIX)
    if short_name not in known:
        near = get_close_matches(short_name, known, n=1)
        hint = f"; did you mean {TORCHVISION_PREFIX}{near[0]}?" if near else f" (known: {', '.join(known)})"
        raise NetworkError(f"network {name} is none of torchvision's{hint}")
    if pretrained:
        _check_weights(name, models.get_model_weights(short_name).DEFAULT.url)


def _check_weights(name: str, url: str) -> None:
    """Checks that the weights are where torchvision looks for them, and hold tensors and nothing else."""
    path = Path(hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        digest = hub.HASH_REGEX.search(path.name)  # torchvision's file names hold the beginning of their sha256
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            hub.download_url_to_file(url, str(path), digest and digest[1], progress=False)
        except (OSError, RuntimeError) as error:
            raise NetworkError(
                f"the pretrained weights of {name} cannot be downloaded ({error}): "
                f"get {url} elsewhere and put it there: {path}"
            ) from error
    try:
        torch.load(path, map_location="meta", weights_only=True)  # torchvision itself would run code in the file
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise NetworkError(f"{path} holds no weights of {name}: replace it with {url}") from error


def _replace_head(classifier: nn.Module, num_classes: int) -> None:
    """Replaces the head by a new one for K classes: the last dense layer, or SqueezeNet's convolution."""
    layers = [(name, layer) for name, layer in classifier.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    name, old = layers[-1]
    if isinstance(old, nn.Linear):
        classifier.set_submodule(name, nn.Linear(old.in_features, num_classes, bias=old.bias is not None))
    else:
        classifier.set_submodule(name, nn.Conv2d(old.in_channels, num_classes, kernel_size=1))
