"""Commands that are printed to be pasted lead to the same cluster and storage."""

from pathlib import Path

import pytest

from trainables.settings import DataSettings, TrialSettings
from tune_mentormix.cli.app import run
from tune_mentormix.cli.jobs import print_sent
from tune_mentormix.cluster.jobs import ClusterJobs, Job
from tune_mentormix.config.search_space import load_space
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import WRONG_REQUEST, RequestError
from tune_mentormix.export.manifest import CONFIG_FILE
from tune_mentormix.export.read import ExportedConfig
from tune_mentormix.storage.yaml_files import write_yaml


@pytest.mark.parametrize(
    ("address", "insecure", "options"),
    [
        ("http://127.0.0.1:8265", False, ""),
        ("http://head:8265", False, " --dashboard http://head:8265"),
        ("http://head:8265", True, " --dashboard http://head:8265 --insecure"),
    ],
)
def test_the_commands_after_a_submission_name_the_cluster_that_an_option_named(
    address: str,
    insecure: bool,
    options: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "TUNE_MENTORMIX_DASHBOARD"):
        monkeypatch.delenv(name, raising=False)
    jobs = ClusterJobs(address, tmp_path, insecure)
    job = Job("birds", "birds-1", "pending", 0.0, None, "", alive=True)
    print_sent(job, jobs)
    shown = capsys.readouterr().out
    for words in ("jobs", "logs birds --follow", "stop birds"):
        assert f" {words}{options} --storage {tmp_path}" in shown
    asked = SearchSettings(space=load_space("default").values, name="birds")
    (tmp_path / "birds").mkdir()
    with pytest.raises(RequestError, match=f"resume birds --submit{options} --storage {tmp_path}$"):
        jobs.submit(asked)
    monkeypatch.setenv("TUNE_MENTORMIX_DASHBOARD", address)
    print_sent(job, jobs)
    assert "--dashboard" not in capsys.readouterr().out


@pytest.mark.parametrize("seed", ["-1", "2147483648", "99999999999999999999"])
def test_a_seed_that_training_cannot_have_is_refused_before_a_folder_is_made(
    tmp_path: Path, seed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = ExportedConfig(
        config=TrialSettings(), data=DataSettings(), threads=1, fingerprint="of other data", labels="noisy"
    )
    write_yaml(tmp_path / CONFIG_FILE, {"format": 1, **exported.model_dump(mode="json")})
    words = ["train", str(tmp_path / CONFIG_FILE), "--out", str(tmp_path / "trained"), "--seed", seed]
    assert run(words) == WRONG_REQUEST
    assert f"got {seed} (--seed)" in capsys.readouterr().err
    assert not (tmp_path / "trained").exists()
