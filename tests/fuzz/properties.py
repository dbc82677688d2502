"""Tells what is wrong with how a command ended, whatever it was given."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path

from tests.fuzz.command_process import MEMORY_BYTES, Outcome
from tune_mentormix.errors import DONE, FAILED, INTERRUPTED, WRONG_REQUEST

MAX_SECONDS = 2.0
DRAWING_SECONDS = 5.0  # for a report that is written: its plots take about two on a busy machine
FORBIDDEN = (  # what Python and pydantic say, not to a user
    *("Traceback", "Value error,", "pydantic.dev", "Input should be"),
    *("Field required", "validation error", "Extra inputs"),
    *("<class ", "object at 0x", "NoneType", "KeyError", "unhashable", "not subscriptable", "has no attribute"),
)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")  # all but tab and line end


def complaints(outcome: Outcome, before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Returns what is wrong with how a command ended; `before` and `after` are what `tree` saw."""
    found = []
    if outcome.code not in (DONE, FAILED, WRONG_REQUEST, INTERRUPTED):
        found.append(f"left with {outcome.code}")
    errors = [line for line in outcome.stderr.splitlines() if line.startswith("error: ")]
    if outcome.code in (FAILED, WRONG_REQUEST) and len(errors) != 1:
        found.append(f"printed {len(errors)} error lines")
    if outcome.code == WRONG_REQUEST and outcome.stderr.count("\n") != 1:
        found.append(f"printed {outcome.stderr.count(chr(10))} lines")
    printed = outcome.stdout + outcome.stderr
    found += [f"printed {text!r}" for text in FORBIDDEN if text in printed]
    found += [f"printed the control character {text!r}" for text in set(CONTROL.findall(printed))]
    if outcome.code == WRONG_REQUEST and before != after:
        changed = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
        found.append(f"changed {', '.join(changed)}")
    if outcome.code == DONE and "--json" in outcome.words:
        found += _not_json(outcome.stdout)
    draws = outcome.code == DONE and outcome.words[0] == "report"
    if outcome.seconds > (DRAWING_SECONDS if draws else MAX_SECONDS):
        found.append(f"took {outcome.seconds:.1f} s")
    if outcome.memory > MEMORY_BYTES:
        found.append(f"took {outcome.memory:,} bytes")
    return found


def tree(folder: Path) -> dict[str, str]:
    """Returns every path below a folder, with a digest of what is there."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        found[name] = sha256(path.read_bytes()).hexdigest() if path.is_file() else "other"
    return found


def _not_json(text: str) -> list[str]:
    try:
        json.loads(text, parse_constant=_refuse)
    except ValueError:
        return ["printed what is not JSON"]
    return []


def _refuse(constant: str) -> None:
    raise ValueError(constant)
