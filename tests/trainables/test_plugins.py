"""Plug-ins: names that are checked before anything is imported, and one line for all that is wrong with one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from ray import cloudpickle
from torch import nn

from tests.support import own_plugins
from tests.support.own_plugins import GOOD, TinyNet
from trainables import plugins
from trainables.data import Dataset
from trainables.errors import NetworkError, PluginError
from trainables.mentormix import failure_reason
from trainables.models import build_network, check_network
from trainables.plugins import (
    allow_plugins,
    is_plugin,
    load_plugin,
    plugin_name,
    sendable,
    source_digests,
    source_folders,
    why_not_usable,
)
from trainables.settings import TrialSettings
from trainables.training import begin_training

HERE = "tests.support.own_plugins"


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_allowed", set())
    monkeypatch.setattr(plugins, "_objects", {})
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.mark.parametrize("name", ["a:b", "a.b.c:D", "_a1._b:_c"])
def test_a_name_is_identifiers_and_one_colon(name: str) -> None:
    assert is_plugin(name)
    assert TrialSettings(network=name).network == name


@pytest.mark.parametrize(
    "name", ["a", "a.b", ":b", "a:", "a:b:c", "a:b.c", "../a:b", "a/b:c", "a :b", "1a:b", "a..b:c", "a:b\n", "a:b()"]
)
def test_no_other_name_is_imported(name: str) -> None:
    assert not is_plugin(name)
    with pytest.raises(ValueError, match="unknown name"):
        TrialSettings(network=name)


def test_a_name_alone_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loud_plugin.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=r"network loud_plugin:Net is a plug-in: its code is not run here"):
        load_plugin("network", "loud_plugin:Net")
    with pytest.raises(NetworkError, match="is not run here unless you ask for it"):
        build_network(TrialSettings(network="loud_plugin:Net"), 10, 3)
    source_digests({"loud_plugin:Net": "network"})
    assert "loud_plugin" not in sys.modules
    allow_plugins(["loud_plugin:Net"])
    with pytest.raises(PluginError, match=r"^network loud_plugin:Net cannot be imported: SystemExit: imported$"):
        load_plugin("network", "loud_plugin:Net")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere_at_all.nets:Net", "cannot be imported: there is no package or module nowhere_at_all; install it"),
        (f"{HERE}.deeper:Net", "cannot be imported: ModuleNotFoundError"),
        (f"{HERE}:Missing", "is not there: .*own_plugins.py has no Missing"),
        (f"{HERE}:A_NUMBER", "is no class or function"),
        (f"{HERE}:raising", "raised KeyError: 'no such layer'"),
        (f"{HERE}:no_network", "must be or return an nn.Module, got one str"),
        (f"{HERE}:wrong_shape", r"must return logits \[2, 7\] for 2 images and 7 classes, got \[2, 8\]"),
        (f"{HERE}:wrong_kind", "must return floating-point logits, got torch.int64"),
        (f"{HERE}:not_a_number", "returned logits that are not finite"),
        (f"{HERE}:no_tensor", "must return a tensor of logits, got one dict"),
        (f"{HERE}:cut_off", "passes no gradient to its parameters"),
        (f"{HERE}:without_parameters", "has no parameters to train"),
        (f"{HERE}:lazy", "has lazy layers"),
        (f"{HERE}:hanging", r"hangs: it did not return within 0\.2 s"),
        ("__main__:Net", "was given as a Python object: give it again"),
    ],
)
def test_whatever_is_wrong_with_a_network_is_one_line_with_its_name(
    name: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "CHECK_SECONDS", 0.2 if name.endswith("hanging") else 60)
    allow_plugins([name])
    with pytest.raises(NetworkError, match=said) as caught:
        check_network(TrialSettings(network=name), 7, 1, (8, 8))
    assert str(caught.value).startswith(f"network {name} ")
    assert "\n" not in str(caught.value)


def test_a_network_that_raises_in_training_is_blamed(noisy_digits: Dataset) -> None:
    for name in (f"{HERE}:RaisesLater", f"{HERE}:raising_later"):
        allow_plugins([name])
        settings = TrialSettings(network=name, epochs=1)
        check_network(settings, 10, 1, (8, 8))
        with pytest.raises(IndexError) as caught:
            begin_training(settings, noisy_digits, 1).train_epoch()
        reason = failure_reason(caught.value, {name: "network"})
        assert reason == f"network {name} raised IndexError: too many birds"
    assert failure_reason(RuntimeError("out of\nmemory"), {"a.b:C": "network"}) == (
        "RuntimeError: out of memory (with network a.b:C)"
    )


def test_a_network_trains_and_goes_on_from_its_state(noisy_digits: Dataset) -> None:
    allow_plugins([GOOD])
    settings = TrialSettings(network=GOOD, epochs=2)
    whole, begun, resumed = (begin_training(settings, noisy_digits, 1) for _ in range(3))
    begun.train_epoch()
    resumed.load_state_dict(begun.state_dict())
    whole.train_epoch()
    whole.train_epoch()
    resumed.train_epoch()
    assert all(torch.equal(weight, resumed.weights()[key]) for key, weight in whole.weights().items())


def test_objects_have_the_name_by_which_they_can_be_imported() -> None:
    assert plugin_name(TinyNet) == GOOD
    assert plugin_name(own_plugins.raising) == f"{HERE}:raising"
    assert plugin_name(GOOD) == GOOD


def test_an_object_of_no_module_travels_with_its_code() -> None:
    class Local(TinyNet):
        pass

    name = plugin_name(Local)
    assert name == "__main__:Local"
    sent = cloudpickle.dumps(sendable({name: "network"}))  # type: ignore[no-untyped-call]
    plugins._objects.clear()
    arrived = cloudpickle.loads(sent)
    assert why_not_usable(arrived) is None
    assert isinstance(load_plugin("network", name)(3, 1), nn.Module)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda classes, channels: nn.Flatten(), "needs a name: define the function <lambda> with def"),
        (nn.Flatten(), "must be package.module:name, a class or a function, got one Flatten"),
        ("birds", "must be named as package.module:name, got 'birds'"),
    ],
)
def test_other_objects_are_refused(given: object, said: str) -> None:
    with pytest.raises(PluginError, match=said):
        plugin_name(given)


def test_the_digest_is_that_of_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "birds_for_digest"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "layers.py").write_text("SIZE = 3\n")
    (tmp_path / "one_file_for_digest.py").write_text("Net = int\n")
    monkeypatch.chdir(tmp_path)  # modules in the current folder are found too
    in_package, in_file = "birds_for_digest.layers:Net", "one_file_for_digest:Net"
    kinds: dict[str, plugins.PluginKind] = {in_package: "network", in_file: "network"}
    before = source_digests(kinds)
    assert plugins.changed_plugin(before, kinds) is None
    assert source_folders(kinds) == [package, tmp_path / "one_file_for_digest.py"]
    (package / "other.py").write_text("\n")
    assert plugins.changed_plugin(before, kinds) == in_package
    (tmp_path / "one_file_for_digest.py").write_text("Net = str\n")
    assert plugins.changed_plugin(before, {in_file: "network"}) == in_file


def test_a_changed_source_is_imported_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "changing_plugin.py"
    monkeypatch.syspath_prepend(tmp_path)
    for answer in ("one", "another"):
        file.write_text(f"def make():\n    return {answer!r}\n")
        allow_plugins(["changing_plugin:make"])
        assert load_plugin("metric", "changing_plugin:make")() == answer


def test_installed_packages_and_our_own_do_not_travel() -> None:
    assert source_folders(["torchvision.models:resnet18", "trainables.models.resnet:resnet32", "json:loads"]) == []
