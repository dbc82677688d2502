"""torchvision's networks take our images, get a head of ours, and report clearly what they lack."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.transforms.functional import to_pil_image

from trainables.device import DeviceDataset
from trainables.errors import NetworkError
from trainables.models import build_network, check_network
from trainables.models.pretrained import ImageClassifier
from trainables.models.torchvision_models import build_torchvision_model
from trainables.settings import TrialSettings
from trainables.training import Trainer

FAMILIES = [
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "inception_v3",
    "maxvit_t",
    "mnasnet0_5",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "resnet50",
    "shufflenet_v2_x0_5",
    "squeezenet1_0",
    "swin_t",
    "vgg11",
    "vit_b_16",
]
SMALL = "torchvision/squeezenet1_1"
SMALL_FILE = "squeezenet1_1-b8a52dc0.pth"


@pytest.fixture(autouse=True)
def weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torchvision looks for weights: an empty folder of this test's own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def saved_network(weights_folder: Path) -> nn.Module:
    """A network of torchvision's own, whose weights are where its pretrained ones would be."""
    network: nn.Module = models.squeezenet1_1()
    torch.save(network.state_dict(), weights_folder / SMALL_FILE)
    return network


@pytest.mark.filterwarnings("ignore:The default weight initialization of:FutureWarning")
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_networks_takes_small_images_and_gives_our_classes(family: str) -> None:
    device = "cpu" if family.startswith("regnet") else "meta"  # a RegNet computes its shape with tensors
    with torch.device(device):
        network = build_torchvision_model(f"torchvision/{family}", pretrained=False, num_classes=7, in_channels=3)
        assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 7)


def test_pretrained_weights_are_loaded_and_only_the_head_is_new(saved_network: nn.Module) -> None:
    network = build_network(TrialSettings(network=SMALL, pretrained=True), num_classes=7, in_channels=3)

    own = {name.removeprefix("classifier."): value for name, value in network.state_dict().items()}
    new = {name for name, value in saved_network.state_dict().items() if not torch.equal(own[name], value)}
    assert new == {"classifier.1.weight", "classifier.1.bias"}


def test_images_arrive_as_the_weights_own_transforms_give_them() -> None:
    transforms = models.SqueezeNet1_1_Weights.DEFAULT.transforms()
    image = torch.randint(0, 256, (3, 256, 256), dtype=torch.uint8)  # of the size where the transforms only crop

    classifier = ImageClassifier(nn.Identity(), (224, 224), transforms.mean, transforms.std)
    arrived = classifier(image[None, :, 16:240, 16:240] / 127.5 - 1)

    torch.testing.assert_close(arrived[0], transforms(to_pil_image(image)), atol=1e-5, rtol=0)


def test_a_grey_image_is_classified_like_the_same_one_in_colour() -> None:
    network = build_torchvision_model(SMALL, pretrained=False, num_classes=7, in_channels=1).eval()
    grey = torch.rand(2, 1, 40, 50)

    with torch.no_grad():
        torch.testing.assert_close(network(grey), network(grey.expand(-1, 3, -1, -1)))


def test_a_trial_fine_tunes_a_pretrained_network(saved_network: nn.Module, data: DeviceDataset) -> None:
    settings = TrialSettings(network=SMALL, pretrained=True, epochs=100, batch_size=4, burn_in=0, learning_rate=0.01)
    trainer = Trainer(settings, data)

    totals = trainer.train_step(0, torch.arange(4))

    assert totals.isfinite().all()
    stem = trainer.network.state_dict()["classifier.features.0.weight"]
    assert not torch.equal(stem, saved_network.state_dict()["features.0.weight"])


def test_an_unknown_network_gets_the_nearest_name() -> None:
    with pytest.raises(
        NetworkError, match=r"^network torchvision/resnet5O is none .* did you mean torchvision/resnet50"
    ):
        check_network(TrialSettings(network="torchvision/resnet5O"), 7, 3)


def test_weights_that_cannot_be_downloaded_are_an_error_that_names_file_and_folder(
    weights_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # no server listens there

    with pytest.raises(NetworkError) as caught:
        check_network(TrialSettings(network=SMALL, pretrained=True), 7, 3)

    message = str(caught.value)
    assert "\n" not in message
    assert f"https://download.pytorch.org/models/{SMALL_FILE}" in message
    assert str(weights_folder / SMALL_FILE) in message
    assert list(weights_folder.iterdir()) == []


def test_a_file_that_holds_no_weights_is_named(weights_folder: Path) -> None:
    (weights_folder / SMALL_FILE).write_bytes(b"<html>404</html>")

    with pytest.raises(NetworkError, match=f"{SMALL_FILE} holds no weights of {SMALL}"):
        check_network(TrialSettings(network=SMALL, pretrained=True), 7, 3)


def test_images_of_another_kind_are_refused() -> None:
    with pytest.raises(NetworkError, match="takes images of 1 or 3 channels, got 4"):
        build_torchvision_model(SMALL, pretrained=False, num_classes=7, in_channels=4)
