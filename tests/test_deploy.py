"""The files of `deploy/`, and the commands that they and the pages of `docs/` show: all fit our own command line."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import subprocess
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from jsonschema import Draft7Validator, Draft202012Validator

from tune_mentormix import __version__
from tune_mentormix.cli.admin import serve
from tune_mentormix.cli.app import app
from tune_mentormix.cluster.jobs import runtime_env
from tune_mentormix.service.settings import ServerSettings
from tune_mentormix.service.sse import PING_SECONDS

REPOSITORY = Path(__file__).parents[1]
DEPLOY = REPOSITORY / "deploy"
OURS = re.compile(r"(?:tune-mentormix|(?:\S*python )?run_search\.py) +(?=[a-z])((?:[^;|&)#\n]|&>)*)")
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)

# What `kubectl explain` and KubeRay's reference of the API (v1.6) tell of the fields that the manifests use, no more:
# an unknown field is refused here, where the cluster would drop it in silence.
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
POD = {
    "type": "object",
    "required": ["spec"],
    "additionalProperties": False,
    "properties": {"spec": {"type": "object", "required": ["containers"]}},
}
HEAD = {
    "type": "object",
    "required": ["template", "rayStartParams"],
    "additionalProperties": False,
    "properties": {"rayStartParams": TEXTS, "template": POD},
}
COUNT = {"type": "integer", "minimum": 0}
WORKERS = {
    "type": "object",
    "required": ["groupName", "template", "rayStartParams"],
    "additionalProperties": False,
    "properties": {
        "groupName": {"type": "string"},
        "replicas": COUNT,
        "minReplicas": COUNT,
        "maxReplicas": COUNT,
        "rayStartParams": TEXTS,
        "template": POD,
    },
}
CLUSTER = {
    "type": "object",
    "required": ["rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"],
    "additionalProperties": False,
    "properties": {
        "rayVersion": {"type": "string"},
        "authOptions": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"mode": {"enum": ["disabled", "token"]}},
        },
        "headGroupSpec": HEAD,
        "workerGroupSpecs": {"type": "array", "items": WORKERS},
    },
}
JOB = {
    "type": "object",
    "required": ["entrypoint", "rayClusterSpec"],
    "additionalProperties": False,
    "properties": {
        "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        "entrypoint": {"type": "string"},
        "runtimeEnvYAML": {"type": "string"},
        "backoffLimit": COUNT,
        "shutdownAfterJobFinishes": {"type": "boolean"},
        "ttlSecondsAfterFinished": COUNT,
        "rayClusterSpec": CLUSTER,
    },
}
JOBS = ("rayjob.yaml", "slurm.sh")
SPECS = {"RayCluster": CLUSTER, "RayJob": JOB}


def commands_in(text: str) -> list[list[str]]:
    """Ours in a shell text, as lists of arguments, as they would be without the expansion of variables."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if not line.lstrip().startswith("#")]
    return [shlex.split(found.split("&>")[0]) for found in OURS.findall("\n".join(lines))]


def shown_commands() -> list[tuple[str, list[str]]]:
    job = yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())["spec"]["entrypoint"]
    script = (DEPLOY / "slurm.sh").read_text()
    [search] = re.findall(r"^SEARCH=\((.*)\)", script, re.MULTILINE)
    texts = [("rayjob.yaml", job), ("slurm.sh", script.replace('"$@"', search))]
    texts += [(page.name, "\n".join(SHELL.findall(page.read_text()))) for page in PAGES]
    return [(name, command) for name, text in texts for command in commands_in(text)]


def manifest(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text())
    return document


def cluster_of(document: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = document["spec"]
    cluster: dict[str, Any] = spec.get("rayClusterSpec", spec)
    return cluster


def test_enough_commands_are_shown_to_check() -> None:
    shown = [name for name, _ in shown_commands()]
    assert {name: shown.count(name) for name in ("rayjob.yaml", "slurm.sh")} == {"rayjob.yaml": 1, "slurm.sh": 2}
    assert shown.count("cluster.md") == 11
    assert shown.count("README.md") >= 10


@pytest.mark.parametrize(
    ("place", "command"), shown_commands(), ids=[f"{n}-{' '.join(c)}" for n, c in shown_commands()]
)
def test_our_command_line_takes_every_command_that_is_shown(place: str, command: list[str]) -> None:
    commands = typer.main.get_command(app)
    subcommand = commands.commands[command[0]]  # type: ignore[attr-defined]
    if "--help" not in command:
        subcommand.make_context(command[0], command[1:])


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_a_manifest_has_the_fields_that_kuberay_knows_and_no_others(name: str) -> None:
    document = manifest(name)
    assert document["apiVersion"] == "ray.io/v1"
    Draft202012Validator(SPECS[document["kind"]]).validate(document["spec"])


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_a_manifest_is_in_token_mode_with_the_locked_ray_and_one_image_everywhere(name: str) -> None:
    cluster = cluster_of(manifest(name))
    assert cluster["authOptions"] == {"mode": "token"}
    locked = tomllib.loads((REPOSITORY / "uv.lock").read_text())["package"]
    [ray] = [package["version"] for package in locked if package["name"] == "ray"]
    assert cluster["rayVersion"] == ray
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    containers = [container for group in groups for container in group["template"]["spec"]["containers"]]
    assert {container["image"] for container in containers} == {f"registry.example/tune-mentormix:{__version__}"}
    for container in containers:
        assert container["resources"]["requests"] == container["resources"]["limits"]


def test_the_jobs_entrypoint_reaches_the_heads_shell_in_one_piece() -> None:
    spec = manifest("rayjob.yaml")["spec"]
    assert spec["submissionMode"] == "HTTPMode"
    subprocess.run(["sh", "-n", "-c", spec["entrypoint"]], check=True)


def test_the_jobs_resume_a_search_that_is_there() -> None:
    assert all(
        "--exist-ok" in command for name, command in shown_commands() if command[0] == "search" and name in JOBS
    )


def test_a_job_is_stopped_with_sigint_and_time_to_end() -> None:
    spec = manifest("rayjob.yaml")["spec"]
    with runtime_env() as ours:
        assert yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"] == ours["env_vars"]


def test_the_machines_file_is_what_ray_up_reads() -> None:
    schema = Path(str(files("ray.autoscaler") / "ray-schema.json"))
    document = manifest("ray-up.yaml")
    Draft7Validator(json.loads(schema.read_text())).validate(document)
    for command in [*document["head_start_ray_commands"], *document["worker_start_ray_commands"]]:
        assert "ray start" not in command or "RAY_AUTH_MODE=token" in command


def test_what_the_container_copies_and_installs_is_there() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (.*)", text, re.MULTILINE) for word in line.split()[:-1]]
    assert all((REPOSITORY / name).exists() for name in copied)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= set(copied)
    assert set(re.findall(r"--extra (\S+)", text)) == {"cluster"} <= set(project["project"]["optional-dependencies"])


def test_the_slurm_script_is_bash() -> None:
    subprocess.run(["bash", "-n", str(DEPLOY / "slurm.sh")], check=True)


def test_the_proxy_leads_to_the_service_and_names_the_address_that_it_sees() -> None:
    directives = re.findall(r"^ +(\w+) ([^;#{}\n]+);", (DEPLOY / "nginx.conf").read_text(), re.MULTILINE)
    assert ("proxy_pass", f"http://127.0.0.1:{inspect.signature(serve).parameters['port'].default}") in directives
    assert ("proxy_set_header", "X-Forwarded-For $remote_addr") in directives, "not what a client claims"
    given = dict(directives)
    assert int(given["client_max_body_size"].removesuffix("k")) * 1024 >= ServerSettings().max_body
    assert int(given["proxy_read_timeout"].removesuffix("s")) > PING_SECONDS
    shown, sign_on = re.findall(
        r"```yaml\n(https: true\n.*?)```", (REPOSITORY / "docs" / "service.md").read_text(), re.DOTALL
    )
    assert ServerSettings.model_validate(yaml.safe_load(sign_on)).sign_in_header == "X-Auth-Request-Email"
    assert ServerSettings.model_validate(yaml.safe_load(shown)).trusted_proxies == ["127.0.0.1"]
