"""Writes what a person needs to verify labels: `verify.csv`, and one HTML page that is answered by key or click."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from trainables.data import Dataset
from trainables.errors import one_line
from trainables.verify_csv import CANNOT_TELL, VerifyRow, format_verify_csv
from tune_mentormix.config.settings import with_storage
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.formatting import templates_of
from tune_mentormix.report.thumbnails import thumbnail
from tune_mentormix.results.verification_pool import VerificationPool, current_pool, load_experiment_data
from tune_mentormix.results.verified_labels import latest_answers, read_answers, read_verify_csv
from tune_mentormix.storage.paths import write_atomically

CSV_FILE, PAGE_FILE = "verify.csv", "verify.html"


@dataclass(frozen=True)
class VerifyFiles:
    """What was written for a person."""

    csv: Path
    page: Path
    images: int
    answered: int  # of these, before
    candidates: int


def write_verify_files(experiment: Experiment, out: Path, images: int, command: str) -> VerifyFiles:
    """Picks the images worth a look, and writes verify.csv and the page into the folder `out`.

    Images that were answered are among them with their answers. `command` reads the file. Raises RequestError if
    there are no candidates to compare, the data cannot be loaded, or a file in `out` has answers that would be lost.
    """
    known = {image: answer.answer for image, answer in latest_answers(read_answers(experiment.path)).items()}
    _refuse_to_lose_answers(experiment, out / CSV_FILE, known)
    dataset, names = load_experiment_data(experiment)
    pool = current_pool(experiment, dataset, names)
    picked = pool.order[:images].tolist()
    answers = {pool.images[p]: known[pool.images[p]] for p in picked if pool.images[p] in known}
    rows = [VerifyRow(pool.images[p], pool.given(p), answers.get(pool.images[p], "")) for p in picked]
    page = _render(experiment, pool, dataset, picked, answers, command)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / CSV_FILE, format_verify_csv(rows))
        write_atomically(out / PAGE_FILE, page)
    except OSError as error:
        raise RequestError(f"cannot write to {out}: {one_line(error)} (--out)") from error
    return VerifyFiles(out / CSV_FILE, out / PAGE_FILE, len(picked), len(answers), len(pool.candidates))


def _refuse_to_lose_answers(experiment: Experiment, path: Path, known: dict[str, str]) -> None:
    """Raises RequestError if a verify.csv has answers that the experiment does not have."""
    if not path.exists():
        return
    new = sum(bool(row.answer.strip()) and known.get(row.image) != row.answer for row in read_verify_csv(path))
    if new:
        read = with_storage(f"verify {experiment.name} --labels {shlex.quote(str(path))}", experiment.path.parent)
        raise RequestError(f"{path} has {new} answers that were not read yet: read them first with {read}")


def _render(
    experiment: Experiment,
    pool: VerificationPool,
    dataset: Dataset,
    picked: list[int],
    answers: dict[str, str],
    command: str,
) -> str:
    environment = templates_of("tune_mentormix.report")
    assert environment.loader
    style, verify_style, script = (
        environment.loader.get_source(environment, file)[0] for file in ("style.css", "verify.css", "verify.js")
    )
    data = {
        "fingerprint": pool.fingerprint,
        "classes": pool.class_names,
        "candidates": [candidate.title for candidate in pool.candidates],
        "unclear": CANNOT_TELL,
        "answers": answers,
        "images": [_image(pool, dataset, position) for position in picked],
    }
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.get_template("verify.html").render(
        name=experiment.name,
        style=Markup(style),
        verify_style=Markup(verify_style),
        script=Markup(script),
        script_digest=digest,
        data=Markup(json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")),
        command=command,
        candidates=len(pool.candidates),
    )
    return page.lstrip()


def _image(pool: VerificationPool, dataset: Dataset, position: int) -> dict[str, Any]:
    """Returns what the page shows of one image: its picture, its given label, and who answers what."""
    place, trained_on = int(pool.positions[position]), len(dataset.train_images)
    pixels = dataset.train_images[place] if place < trained_on else dataset.validation_images[place - trained_on]
    votes: dict[int, list[int]] = {}
    for candidate, answers in enumerate(pool.evidence.answers[:, :, position]):
        for label in np.unique(answers[answers >= 0]).tolist():
            votes.setdefault(label, []).append(candidate)
    return {
        "image": pool.images[position],
        "given": int(pool.evidence.given[position]),
        "votes": votes,
        "picture": thumbnail(pixels),
    }
