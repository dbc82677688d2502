"""The images that can be verified: what the candidates of a search answer about images that they did not train on.

A pool is written once, beside the answers, with the order in which its images are drawn. So the answers can be read
without the data and without the checkpoints, and what is drawn next does not depend on what was answered.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.data import Dataset, ImageNames, load_named_dataset
from trainables.errors import DatasetError, one_line
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.checkpoints import validation_probabilities
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.results.confirmation import read_confirmation
from tune_mentormix.results.summary import CONTROL_TITLES
from tune_mentormix.results.verification import Evidence, draw_order
from tune_mentormix.results.verified_labels import VERIFICATION_FOLDER, latest_answers, new_name, read_answers
from tune_mentormix.storage.listing import list_folder
from tune_mentormix.storage.paths import Location, write_atomically

FORMAT = 1
MAX_TRIALS = 24  # of a search without a confirmation, the best ones; the controls are added
MAX_CELLS = 20_000_000  # probabilities; of more images a part is taken at random, which keeps estimates unbiased
_PREFIX, _SUFFIX = "pool-", ".npz"

Probabilities = NDArray[np.float16]


@dataclass(frozen=True)
class PoolCandidate:
    """A configuration that may be chosen."""

    title: str  # `trial 7`, or a control in words
    trial: int | None  # its number in the search, if it ran there
    control: str | None

    @property
    def in_a_sentence(self) -> str:
        """The title, with an article where it needs one."""
        return f"the {self.title}" if self.control == "published" else self.title


@dataclass(frozen=True)
class VerificationPool:
    """Images, what the candidates answer about them, and the order in which they are to be verified."""

    is_confirmed: bool  # whether the candidates are those of a confirmation
    candidates: tuple[PoolCandidate, ...]
    class_names: tuple[str, ...]
    images: tuple[str, ...]  # their names
    fingerprint: str  # of the data
    digest: str  # of all that the order was drawn for
    positions: NDArray[np.int64]  # [M] of the images, counted over training and then validation images
    evidence: Evidence
    order: NDArray[np.int64]  # of the images, without those that had been verified before
    sizes: NDArray[np.float64]  # [M] as `draw_order` returns them

    def given(self, position: int) -> str:
        """Returns the name of the class that an image is labelled as."""
        return self.class_names[int(self.evidence.given[position])]


@dataclass(frozen=True)
class _Runs:
    """The runs of one candidate: for each the fold it holds out, and its probabilities for that fold's images."""

    candidate: PoolCandidate
    runs: list[tuple[int, Probabilities]]


def load_experiment_data(experiment: Experiment) -> tuple[Dataset, ImageNames]:
    """Loads the data of a search. Raises RequestError if they are gone, or others now."""
    try:
        dataset, names = load_named_dataset(experiment.settings.data_settings())
    except DatasetError as error:
        raise RequestError(str(error)) from error
    if dataset.fingerprint != experiment.provenance.dataset.fingerprint:
        raise RequestError(
            f"the data are not those that {experiment.name} was run on (their fingerprints differ): restore them"
        )
    return dataset, names


def current_pool(experiment: Experiment, dataset: Dataset, names: ImageNames) -> VerificationPool:
    """Returns the pool of the candidates as they are now; makes and keeps one where the newest is of others.

    Raises RequestError if there are no two candidates to compare, labels are clean already, or it cannot be kept.
    """
    if experiment.labels_kind == "clean":
        raise RequestError(f"the validation labels of {experiment.name} are clean: there is nothing to verify")
    confirmed = _confirmed_runs(experiment)
    runs = confirmed or _search_runs(experiment)
    if len(runs) < 2:
        raise RequestError(
            f"{experiment.name} has {len(runs)} candidates with predictions, and two are needed to compare: finished "
            "trials whose checkpoints are there, or a finished confirmation"
        )
    pool = _make_pool(experiment, dataset, names, runs, bool(confirmed))
    newest = newest_pool(experiment.path)
    if newest and newest.digest == pool.digest:
        return newest
    _write_pool(experiment.path, pool)
    return pool


def _confirmed_runs(experiment: Experiment) -> list[_Runs]:
    """Returns the candidates of a finished confirmation that ran on every seed; none without one."""
    confirmation = read_confirmation(experiment)
    if confirmation is None or confirmation.winner() is None:
        return []
    found = []
    for candidate in confirmation.ranking():
        by_seed = confirmation.runs_of(candidate)
        if len(confirmation.accuracies(candidate)) < len(confirmation.seeds):
            continue
        runs = [
            (confirmation.fold(seed) or 0, validation_probabilities(confirmation.runs, run))
            for seed, run in by_seed.items()
        ]
        kept = [(fold, probabilities) for fold, probabilities in runs if probabilities is not None]
        if len(kept) == len(runs):
            found.append(_Runs(PoolCandidate(candidate.title, candidate.trial, candidate.control), kept))
    return found


def _search_runs(experiment: Experiment) -> list[_Runs]:
    """Returns the best trials that ran to the end, and the controls."""
    ranked = experiment.ranked_trials()
    chosen = [trial for rank, trial in enumerate(ranked) if rank < MAX_TRIALS or trial.control]
    found = []
    for trial in chosen:
        probabilities = validation_probabilities(experiment, trial)
        if probabilities is not None:
            found.append(_Runs(PoolCandidate(_title(trial), trial.number, trial.control), [(0, probabilities)]))
    return found


def _title(trial: Trial) -> str:
    name = CONTROL_TITLES.get(str(trial.control))
    return f"{name} (trial {trial.number})" if name else f"trial {trial.number}"


def _make_pool(
    experiment: Experiment, dataset: Dataset, names: ImageNames, runs: list[_Runs], is_confirmed: bool
) -> VerificationPool:
    images = names.train + names.validation
    given = np.concatenate([dataset.train_labels, dataset.validation_given_labels])
    folds = sorted({fold % dataset.folds for each in runs for fold, _ in each.runs})
    held_out = {fold: dataset.held_out_positions(fold) for fold in folds}
    positions = np.concatenate([held_out[fold] for fold in folds])
    starts = dict(zip(folds, np.cumsum([0, *(len(held_out[fold]) for fold in folds)]).tolist(), strict=False))
    kept = _kept(len(positions), len(runs) * len(dataset.class_names))
    laid_out = [_lay_out(each.runs, starts, len(positions), len(dataset.class_names), dataset.folds) for each in runs]
    rounds = max(len(answers) for _, answers in laid_out)
    answers = np.full((len(runs), rounds, len(positions)), -1, np.int16)
    for candidate, (_, own) in enumerate(laid_out):
        answers[candidate, : len(own)] = own
    probabilities = np.stack([mean for mean, _ in laid_out])
    evidence = Evidence(probabilities[:, kept], answers[:, :, kept], given[positions][kept])
    candidates = tuple(each.candidate for each in runs)
    chosen = tuple(images[position] for position in positions[kept])
    digest = hashlib.sha256(json.dumps([*map(asdict, candidates)]).encode())
    for part in (dataset.fingerprint.encode(), evidence.probabilities.tobytes(), evidence.answers.tobytes()):
        digest.update(part)
    verified = latest_answers(read_answers(experiment.path))
    may_be_drawn = np.array([image not in verified for image in chosen])
    order, sizes = draw_order(evidence.disagreement(), may_be_drawn, int.from_bytes(digest.digest()[:8], "big"))
    return VerificationPool(
        is_confirmed=is_confirmed,
        candidates=candidates,
        class_names=dataset.class_names,
        images=chosen,
        fingerprint=dataset.fingerprint,
        digest=digest.hexdigest(),
        positions=positions[kept],
        evidence=evidence,
        order=order,
        sizes=sizes,
    )


def _kept(images: int, cells_each: int) -> NDArray[np.int64]:
    """Chooses the images that fit into a pool."""
    most = max(1, MAX_CELLS // cells_each)
    return np.sort(np.random.default_rng(0).permutation(images)[:most])


def _lay_out(
    runs: list[tuple[int, Probabilities]], starts: dict[int, int], images: int, classes: int, folds: int
) -> tuple[Probabilities, NDArray[np.int16]]:
    """Returns the mean probabilities [M, K] of a candidate's runs, and their answers by round [R, M]."""
    totals, counts = np.zeros((images, classes), np.float32), np.zeros(images, np.int64)
    answers: list[NDArray[np.int16]] = []
    for fold, probabilities in runs:
        start = starts[fold % folds]
        part = slice(start, start + len(probabilities))
        number = int(counts[start])
        if number == len(answers):
            answers.append(np.full(images, -1, np.int16))
        answers[number][part] = probabilities.argmax(axis=1)
        totals[part] += probabilities
        counts[part] += 1
    return (totals / np.maximum(counts, 1)[:, None]).astype(np.float16), np.stack(answers)


def newest_pool(experiment: Location) -> VerificationPool | None:
    """Reads the newest pool of an experiment; None if there is none. Raises RequestError if it cannot be read."""
    folder = experiment / VERIFICATION_FOLDER
    try:
        names = sorted(p.name for p in list_folder(folder) if p.name.startswith(_PREFIX) and p.name.endswith(_SUFFIX))
        return _read_pool((folder / names[-1]).read_bytes(), folder / names[-1]) if names else None
    except OSError as error:
        raise RequestError(f"cannot read {folder}: {one_line(error)}") from error


def _write_pool(experiment: Location, pool: VerificationPool) -> None:
    header = {
        "format": FORMAT,
        "is_confirmed": pool.is_confirmed,
        "candidates": [asdict(candidate) for candidate in pool.candidates],
        "class_names": pool.class_names,
        "images": pool.images,
        "fingerprint": pool.fingerprint,
        "digest": pool.digest,
    }
    content = io.BytesIO()
    np.savez_compressed(
        content,
        header=np.frombuffer(json.dumps(header).encode(), np.uint8),
        probabilities=pool.evidence.probabilities,
        answers=pool.evidence.answers,
        given=pool.evidence.given,
        positions=pool.positions,
        order=pool.order,
        sizes=pool.sizes,
    )
    folder = experiment / VERIFICATION_FOLDER
    try:
        folder.mkdir(exist_ok=True)
        write_atomically(folder / new_name(_PREFIX, _SUFFIX), content.getvalue())
    except OSError as error:
        raise RequestError(f"{folder} cannot be written: {one_line(error)}") from error


def _read_pool(content: bytes, path: Location) -> VerificationPool:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            header = json.loads(arrays["header"].tobytes())
            if header["format"] > FORMAT:
                raise RequestError(f"{path} was written by a newer version: use that version")
            return VerificationPool(
                is_confirmed=header["is_confirmed"],
                candidates=tuple(PoolCandidate(**candidate) for candidate in header["candidates"]),
                class_names=tuple(header["class_names"]),
                images=tuple(header["images"]),
                fingerprint=header["fingerprint"],
                digest=header["digest"],
                positions=arrays["positions"],
                evidence=Evidence(arrays["probabilities"], arrays["answers"], arrays["given"]),
                order=arrays["order"],
                sizes=arrays["sizes"],
            )
    except RequestError:
        raise
    except Exception as error:  # on a damaged file NumPy raises almost anything
        raise RequestError(f"{path} is damaged: move it away, and call verify again") from error
