"""timm's networks take our images, get a head of ours, and report clearly what they lack."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn

from trainables.errors import MissingPackageError, NetworkError
from trainables.models import build_network, check_network
from trainables.models.pretrained import ImageClassifier
from trainables.models.timm_models import build_timm_model
from trainables.settings import TrialSettings

timm = pytest.importorskip("timm")
constants = pytest.importorskip("huggingface_hub.constants")

TINY = "timm/test_resnet"
PRETRAINED = TrialSettings(network=TINY, pretrained=True)


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where timm looks for weights: an empty folder of this test's own, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.fixture
def cached_network(hub_cache: Path) -> nn.Module:
    """A network of timm's own, whose weights are where its pretrained ones would be."""
    network: nn.Module = timm.create_model("test_resnet")
    source = timm.get_pretrained_cfg("test_resnet")
    repository = hub_cache / f"models--{source.hf_hub_id.replace('/', '--')}"
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    save_file(network.state_dict(), repository / "snapshots" / "abc" / "model.safetensors")
    return network


def test_pretrained_weights_are_loaded_from_the_cache_without_a_network_and_only_the_head_is_new(
    cached_network: nn.Module,
) -> None:
    check_network(PRETRAINED, num_classes=7, in_channels=3)
    network = build_network(PRETRAINED, num_classes=7, in_channels=3)

    own = {name.removeprefix("classifier."): value for name, value in network.state_dict().items()}
    new = {name for name, value in cached_network.state_dict().items() if not torch.equal(own[name], value)}
    assert new == {"fc.weight", "fc.bias"}


def test_images_arrive_in_the_size_and_normalization_of_the_weights() -> None:
    source = timm.get_pretrained_cfg("vit_tiny_patch16_224")
    network = build_timm_model("timm/vit_tiny_patch16_224", False, num_classes=7, in_channels=3)
    assert isinstance(network, ImageClassifier)
    assert network.heads == ("classifier.head",)
    images = torch.rand(2, 3, *source.input_size[1:])

    network.classifier = nn.Identity()

    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (source.mean, source.std))
    torch.testing.assert_close(network(2 * images - 1), (images - mean) / deviation, atol=1e-5, rtol=0)
    assert network(torch.ones(2, 3, 8, 8)).shape == images.shape


def test_a_grey_image_is_classified_like_the_same_one_in_colour() -> None:
    network = build_timm_model(TINY, pretrained=False, num_classes=7, in_channels=1).eval()
    grey = torch.rand(2, 1, 40, 50)

    with torch.no_grad():
        torch.testing.assert_close(network(grey), network(grey.expand(-1, 3, -1, -1)))


def test_without_a_network_the_error_names_the_file_and_where_to_put_it() -> None:
    address = "https://huggingface.co/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"
    with pytest.raises(NetworkError, match=f"^the pretrained weights of {TINY} .*: get {address} .* set weights"):
        check_network(PRETRAINED, num_classes=7, in_channels=3)


def test_an_unknown_network_gets_the_nearest_name_and_nothing_is_asked_of_the_hub() -> None:
    with pytest.raises(NetworkError, match=r"^network timm/resnet5O is none .* did you mean timm/resnet"):
        check_network(TrialSettings(network="timm/resnet5O"), 7, 3)
    with pytest.raises(NetworkError, match=r"^network timm/hf-hub:a/b is none of timm's"):
        check_network(TrialSettings(network="timm/hf-hub:a/b"), 7, 3)


def test_images_of_other_than_1_or_3_channels_are_refused() -> None:
    with pytest.raises(NetworkError, match="takes images of 1 or 3 channels, got 4"):
        build_timm_model(TINY, pretrained=False, num_classes=7, in_channels=4)


def test_without_timm_the_error_tells_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainables.models.timm_models.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"^network timm/test_resnet needs timm: make install EXTRAS=timm"):
        check_network(TrialSettings(network=TINY), 7, 3)


def test_a_network_of_no_library_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"known: resnet18_cifar, .*, torchvision/NAME, timm/NAME"):
        TrialSettings(network="keras/resnet50")
