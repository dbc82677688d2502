"""Generated requests over the OpenAPI document: no server error, and no answer outside the schema."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.service.conftest import ADMIN, READ, RUN
from tests.support.served_process import served_process

EXAMPLES = 20  # generated requests of each operation, besides those at every boundary of the schema
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,negative_data_rejection,missing_required_header,unsupported_method,"
    "ignored_auth,use_after_free,ensure_resource_availability"
)
ENDLESS = r"/events$"
HEAVY = r"/(report|export|labels|labels\.csv)$"  # each of these starts a process


ROLES = {"read": READ, "run": RUN, "admin": ADMIN}
TRIED = os.environ.get("SCHEMATHESIS_ROLES", "run").split()  # each takes a minute; of all roles it starts the most


@pytest.mark.slow
@pytest.mark.parametrize("role", TRIED)
def test_generated_requests_meet_no_server_error_and_no_answer_outside_the_schema(
    simulated_storage: Path, tmp_path: Path, role: str
) -> None:
    storage = tmp_path / "storage"  # requests delete searches
    shutil.copytree(simulated_storage, storage)
    with served_process(storage, tmp_path / "log") as served:
        document = served.get("/api/v1/openapi.json").json()
        _name_what_is_there(document)
        (tmp_path / "openapi.json").write_text(json.dumps(document))
        result = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", "openapi.json", "--url", served.url),
                *("--header", f"Authorization: Bearer {ROLES[role]}", "--max-examples", str(EXAMPLES), "--seed", "1"),
                *("--phases", "examples,coverage,fuzzing", "--checks", CHECKS, "--request-timeout", "20"),
                *("--exclude-path-regex", f"{ENDLESS}|{HEAVY}", "--no-color", "--generation-deterministic"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout[-6_000:] + result.stderr[-2_000:]
        assert served.get("/healthz").status_code == 200
    assert "exception" not in (tmp_path / "log").read_text()


def _name_what_is_there(document: dict[str, Any]) -> None:
    """Generated names alone would meet little but 404."""
    for path in document["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] == "name":
                    parameter["examples"] = {name: {"value": name} for name in ("birds", "cut", "damaged")}
