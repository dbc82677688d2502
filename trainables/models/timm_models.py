"""timm's classification networks, from scratch or pretrained, for images in [−1, 1].

A separate module, because timm is an optional package and takes seconds to import.
"""

from __future__ import annotations

import logging
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from trainables.errors import MissingPackageError, NetworkError, one_line
from trainables.models.pretrained import ImageClassifier
from trainables.settings import TIMM_PREFIX


def build_timm_model(name: str, pretrained: bool, num_classes: int, in_channels: int) -> nn.Module:
    """Builds the network `timm/…` with a new head, which is never pretrained.

    Raises NetworkError if timm has no such network, its weights are unavailable, or `in_channels` is neither 1 nor 3,
    and MissingPackageError without timm.
    """
    if in_channels not in (1, 3):
        raise NetworkError(f"network {name} takes images of 1 or 3 channels, got {in_channels}")
    source = _find(name, pretrained)
    import timm

    file = _weights_file(name, source) if pretrained else None
    try:
        classifier = timm.create_model(
            name.removeprefix(TIMM_PREFIX),
            pretrained=pretrained,
            pretrained_cfg_overlay={"file": str(file), "custom_load": False} if file else None,
            num_classes=num_classes,
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise NetworkError(f"timm cannot build network {name}: {one_line(error)}") from error
    heads = (source.classifier,) if isinstance(source.classifier, str) else tuple(source.classifier or ())
    mode = "bicubic" if source.interpolation == "bicubic" else "bilinear"
    _, height, width = source.input_size
    return ImageClassifier(classifier, (height, width), source.mean, source.std, mode, heads)


def check_timm_model(name: str, pretrained: bool) -> None:
    """Raises as `build_timm_model` does if a network cannot be built; downloads its weights if they are wanted."""
    source = _find(name, pretrained)
    if pretrained:
        _weights_file(name, source)


def _find(name: str, pretrained: bool) -> Any:
    """Returns what timm knows of a network's pretrained weights, a `PretrainedCfg`."""
    if find_spec("timm") is None:
        raise MissingPackageError(
            f"network {name} needs timm: make install EXTRAS=timm, "
            "or without a checkout pip install 'tune-mentormix[timm]'"
        )
    import timm

    short_name = name.removeprefix(TIMM_PREFIX)
    known = [*timm.list_models(), *timm.list_pretrained()]
    if short_name not in known:
        near = get_close_matches(short_name, known, n=1)
        hint = f"; did you mean {TIMM_PREFIX}{near[0]}?" if near else " (the networks command tells where they are)"
        raise NetworkError(f"network {name} is none of timm's{hint}")
    source: Any = timm.get_pretrained_cfg(short_name)
    if pretrained and not source.has_weights:
        raise NetworkError(f"timm has no weights for {name}: leave out pretrained, or set weights to a file")
    return source


def _weights_file(name: str, source: Any) -> Path | None:
    """Returns the weights' safetensors file in the cache of the Hugging Face Hub, where it is downloaded if missing.

    A cached file is taken without asking the Hub, which takes half a minute where there is no network. Returns None
    if there is no such file: timm has other ways. Raises NetworkError if it cannot be downloaded.
    """
    if not source.hf_hub_id:
        return None
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

    repository, revision, file = _hub_file(source)
    cached = huggingface_hub.try_to_load_from_cache(repository, file, revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # else a line for every retry
    try:
        return Path(huggingface_hub.hf_hub_download(repository, file, revision=revision))
    except RemoteEntryNotFoundError:
        return None
    except OSError as error:
        reason = "the Hub does not answer" if isinstance(error, LocalEntryNotFoundError) else one_line(error)
        raise NetworkError(
            f"the pretrained weights of {name} cannot be downloaded ({reason}): get {_address(source)} elsewhere and "
            "set weights to its path, instead of pretrained"
        ) from error


def _hub_file(source: Any) -> tuple[str, str | None, str]:
    """Returns the repository, the revision and the name of a file on the Hugging Face Hub."""
    repository, _, revision = source.hf_hub_id.partition("@")
    name = (source.hf_hub_filename or "model.safetensors").replace("pytorch_model.bin", "model.safetensors")
    return repository, revision or None, name


def _address(source: Any) -> str:
    """Returns where weights can be had from."""
    if not source.hf_hub_id:
        return str(source.url)
    repository, revision, name = _hub_file(source)
    return f"https://huggingface.co/{repository}/resolve/{revision or 'main'}/{name}"
