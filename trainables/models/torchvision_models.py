"""torchvision's classification networks, from scratch or pretrained, for images in [−1, 1].

Fine-tuning a pretrained network is the first recommendation of Jiang et al. (2020) for noisy labels. A separate
module, so that other trials do not wait for torchvision to be imported.
"""

from __future__ import annotations

import pickle
from difflib import get_close_matches
from pathlib import Path

import torch
from torch import hub, nn
from torchvision import models

from trainables.errors import NetworkError
from trainables.models.pretrained import AUXILIARY_HEADS, ImageClassifier, replace_head
from trainables.settings import TORCHVISION_PREFIX


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
    for head in AUXILIARY_HEADS:
        if hasattr(classifier, head):
            setattr(classifier, head, None)
            classifier.aux_logits = False
    head = replace_head(classifier, num_classes)
    transforms = weights.transforms()
    (side,) = transforms.crop_size
    return ImageClassifier(classifier, (side, side), transforms.mean, transforms.std, heads=(head,))


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
