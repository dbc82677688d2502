"""Confirms a search: trains its best and the controls on fresh seeds, then measures them on the test set."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict
from typing import Any

import ray

from trainables.data import Dataset, load_test_split
from trainables.errors import DatasetError
from trainables.inference import final_accuracy
from trainables.plugins import with_plugins
from tune_mentormix.cluster.autoscaling import wait_for_room
from tune_mentormix.cluster.connection import connection
from tune_mentormix.cluster.nodes import prepare_nodes
from tune_mentormix.config.settings import FORMAT, SearchSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.checkpoints import newest_checkpoint
from tune_mentormix.experiment.create import retraining_settings
from tune_mentormix.experiment.events import Eliminated, EventJournal
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.experiment.provenance import Provenance
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.results.candidates import Candidate, choose_candidates, confirmation_seeds
from tune_mentormix.results.confirmation import (
    ABLATION_RUNS,
    CONFIRMATION_FOLDER,
    REQUEST_FILE,
    SEEDS,
    TOP_K,
    Confirmation,
    check_can_confirm,
    check_counts,
    read_confirmation,
)
from tune_mentormix.results.evaluation_log import record_evaluation, record_results
from tune_mentormix.results.statistics import MIN_ROUNDS, eliminated_candidates
from tune_mentormix.search.early_stopping import AsyncSuccessiveHalving
from tune_mentormix.search.plan import SearchRequest, stored_request
from tune_mentormix.search.searcher import Run, TrialStart
from tune_mentormix.search.tune_run import run_experiment
from tune_mentormix.search.watching import watching_confirmation
from tune_mentormix.storage.lease import Lease
from tune_mentormix.storage.paths import Location
from tune_mentormix.storage.yaml_files import write_yaml

Progress = Callable[[Confirmation], None]


def confirm_search(
    storage: Location,
    name: str,
    top_k: int | None,
    seeds: int | None,
    changes: dict[str, Any],
    progress: Progress,
    verbose: bool = False,
    ablate: bool = False,
) -> Confirmation:
    """Confirms a search, or resumes its confirmation; measures on the test set once nothing is left to train.

    The candidates are chosen once, when a confirmation begins. More seeds extend it, and then the test set is
    evaluated again; a complete confirmation is only read.

    `top_k` configurations and `seeds` default to 5, or to what they were before. `changes` are settings that may
    differ from the search's: `address`, resources, `time_budget`. `ablate` trains the winner's ablations too, and is
    remembered. Raises RequestError if there is nothing to confirm, the data changed, a driver runs the search or its
    confirmation, or if the candidates differ from, or the seeds are fewer than, those of the confirmation.
    """
    check_counts(top_k, seeds)
    experiment = read_experiment(storage, name)
    Lease(experiment.path).check_free()
    settings = retraining_settings(experiment, changes | {"storage": storage})
    confirmation = read_confirmation(experiment)
    if confirmation:
        Lease(confirmation.runs.path).check_free()
        _check_extension(confirmation, top_k, seeds)
        confirmation.ablate |= ablate
        is_extended = len(confirmation.seeds) != (seeds or len(confirmation.seeds))
        if confirmation.test_evaluation and not is_extended and not confirmation.has_ablations_left:
            return confirmation
    else:
        check_can_confirm(experiment)
    request = stored_request(experiment, settings)
    with watching_confirmation(experiment) as watch, connection(request.settings, verbose):
        wait_for_room(settings)
        checked = prepare_nodes(settings, request.dataset)
        path = experiment.path / CONFIRMATION_FOLDER
        path.mkdir(exist_ok=True)
        with Lease(path).acquire(), watch.watching() as tell:
            confirmation = _begin_or_extend(experiment, request, top_k, seeds, ablate)
            _run(confirmation, request, checked, progress)
            tell(confirmation)
    return confirmation


def _check_extension(confirmation: Confirmation, top_k: int | None, seeds: int | None) -> None:
    if top_k not in (None, confirmation.top_k):
        raise RequestError(
            f"top_k must be {confirmation.top_k}, as this confirmation has, got {top_k} (--top-k); "
            f"to start another, move {confirmation.runs.path} away"
        )
    if seeds is not None and seeds < len(confirmation.seeds):
        raise RequestError(
            f"seeds must be at least {len(confirmation.seeds)}, as this confirmation has, got {seeds} (--seeds)"
        )


def _begin_or_extend(
    experiment: Experiment, request: SearchRequest, top_k: int | None, seeds: int | None, ablate: bool
) -> Confirmation:
    """Writes the request, or a larger one; this process is the only writer."""
    confirmation = read_confirmation(experiment)
    if confirmation is None:
        confirmation = Confirmation(
            Experiment(experiment.path / CONFIRMATION_FOLDER, experiment.settings, experiment.provenance),
            candidates=choose_candidates(experiment, request.control_settings(), top_k or TOP_K),
            seeds=confirmation_seeds(request.settings.seed, seeds or SEEDS),
            top_k=top_k or TOP_K,
            searched=experiment.ended_trials(),
            folds=request.dataset.folds,
            ablate=ablate,
        )
    elif (seeds and seeds > len(confirmation.seeds)) or (ablate and not confirmation.ablate):
        confirmation.seeds = confirmation_seeds(request.settings.seed, seeds or len(confirmation.seeds))
        confirmation.ablate |= ablate
    else:
        return confirmation
    values = {
        "format": FORMAT,
        "experiment": experiment.name,
        "top_k": confirmation.top_k,
        "seeds": confirmation.seeds,
        "searched": confirmation.searched,
        "folds": confirmation.folds,
        "candidates": [asdict(candidate) for candidate in confirmation.candidates],
        "provenance": Provenance.collect(request.dataset, request.settings).model_dump(mode="json"),
    }
    if confirmation.ablate:
        values["ablate"] = True
    write_yaml(confirmation.runs.path / REQUEST_FILE, values)
    return confirmation


def _run(confirmation: Confirmation, request: SearchRequest, checked: Collection[str], progress: Progress) -> None:
    def finish(run: Run, reason: str) -> str:
        eliminate_failed(confirmation, run.journal)
        return _test(confirmation, request) if reason == "finished" else reason

    def run_all(proposals: Callable[[Run, Confirmation], Iterator[TrialStart | None]]) -> None:
        budget = request.settings.time_budget
        changes = {
            "num_samples": confirmation.planned(),
            "time_budget": None if budget is None else max(0.0, budget - (time.monotonic() - started)),
        }
        run_experiment(
            confirmation.runs,
            request.settings.model_copy(update=changes),
            request.dataset,
            checked,
            lambda run: proposals(run, confirmation),
            AsyncSuccessiveHalving(),  # without rungs: every run counts in full
            [confirmation.apply],
            lambda _: progress(confirmation),
            finish,
            "confirm",
        )

    started = time.monotonic()
    if not confirmation.test_evaluation:
        run_all(confirmation_proposals)
        if confirmation.runs.ended != "finished":
            return
    if confirmation.has_ablations_left:
        run_all(ablation_proposals)


def _test(confirmation: Confirmation, request: SearchRequest) -> str:
    """Evaluates on the test set if there is a winner; returns why the run ended."""
    winner = confirmation.winner()
    if winner is None or confirmation.test_evaluation:
        return "finished"
    try:
        evaluate_on_test_set(confirmation, winner, request.settings, request.dataset)
    except DatasetError as error:
        confirmation.no_test = str(error)
    except KeyboardInterrupt:
        return "interrupted"
    return "finished"


def confirmation_proposals(run: Run, confirmation: Confirmation) -> Iterator[TrialStart | None]:
    """Unfinished runs, then round by round; None while a round waits for the runs of the rounds before."""
    yield from run.unfinished
    for round_number, seed in enumerate(confirmation.seeds):
        if round_number >= MIN_ROUNDS and not _has_started(confirmation, round_number):
            eliminate_failed(confirmation, run.journal)
            while confirmation.runs.unfinished():
                yield None
                eliminate_failed(confirmation, run.journal)
            _eliminate_worse(confirmation, round_number, run.journal)
        for candidate in confirmation.candidates:
            eliminate_failed(confirmation, run.journal)
            number = confirmation.run_number(candidate, round_number)
            if number not in confirmation.runs.trials and candidate.name not in confirmation.eliminated:
                config, fold = candidate.config | {"seed": seed}, confirmation.fold(seed)
                yield TrialStart(Trial(number, config, candidate.control, fold=fold))


def ablation_proposals(run: Run, confirmation: Confirmation) -> Iterator[TrialStart]:
    """Unfinished runs, then all ablations on one seed after the other."""
    yield from run.unfinished
    for seed in confirmation.seeds:
        for ablation in confirmation.ablations():
            if seed not in confirmation.runs_of(ablation):
                number = max(ABLATION_RUNS, max(confirmation.runs.trials) + 1)
                config = ablation.config | {"seed": seed}
                yield TrialStart(Trial(number, config, fold=confirmation.fold(seed)))


def _has_started(confirmation: Confirmation, round_number: int) -> bool:
    """Whether it is already decided which candidates run in a round."""
    numbers = (confirmation.run_number(candidate, round_number) for candidate in confirmation.candidates)
    return round_number in confirmation.rounds_decided or any(
        number in confirmation.runs.trials for number in numbers
    )


def _eliminate_worse(confirmation: Confirmation, rounds: int, journal: EventJournal) -> None:
    """Eliminates candidates by a paired test over all rounds so far; never the controls."""
    race = [c for c in confirmation.candidates if c.name not in confirmation.eliminated]
    accuracies = {c.name: confirmation.accuracies(c) for c in race if confirmation.accuracies(c)}
    kept = [c.name for c in race if c.control]
    reasons = eliminated_candidates(accuracies, kept) if accuracies else {}
    if reasons:
        journal.record(Eliminated(rounds=rounds, candidates=reasons))


def eliminate_failed(confirmation: Confirmation, journal: EventJournal) -> None:
    """Eliminates each candidate of which a run failed, whatever its other runs show; never a control."""
    reasons = {c.name: confirmation.failure(c) for c in confirmation.candidates if not c.control}
    new = {name: why for name, why in reasons.items() if why and name not in confirmation.eliminated}
    if new:
        journal.record(Eliminated(rounds=None, candidates=new))


def evaluate_on_test_set(
    confirmation: Confirmation, winner: Candidate, settings: SearchSettings, dataset: Dataset
) -> None:
    """Measures every run of the winner and its rivals on the test split, and records the results.

    The evaluation is recorded before anything is measured, so that an interrupted one is on record too. Raises
    DatasetError, and writes nothing, if the dataset has no test split.
    """
    images, labels = load_test_split(settings.data_settings())
    compared = confirmation.compared(winner)
    seeds = {candidate.name: sorted(confirmation.accuracies(candidate)) for candidate in compared}
    about = {"images": len(labels), "trained_on": dataset.fingerprint, "winner": winner.name}
    evaluation = record_evaluation(confirmation.runs.path, seeds, **about)
    confirmation.test_evaluations.append(evaluation)
    results = _measure(confirmation, compared, settings, (dataset, images, labels))
    record_results(confirmation.runs.path, evaluation, results)


def _measure(
    confirmation: Confirmation, compared: list[Candidate], settings: SearchSettings, data: tuple[Any, Any, Any]
) -> dict[str, dict[str, float]]:
    """Accuracies by candidate and seed, each measured in a Ray task with the resources of a trial."""
    remote = ray.remote(num_cpus=settings.cpus_per_trial, num_gpus=settings.gpus())
    measure = remote(with_plugins(final_accuracy, settings.plugins()))
    dataset, images, labels = (ray.put(part) for part in data)
    tasks = {
        candidate.name: {
            str(seed): measure.remote(
                run.config,
                dataset,
                newest_checkpoint(confirmation.runs, run),
                images,
                labels,
                settings.threads(),
                run.fold or 0,
                settings.device,
            )
            for seed, run in confirmation.runs_of(candidate).items()
            if run.state == "finished"
        }
        for candidate in compared
    }
    return {name: {seed: ray.get(task) for seed, task in by_seed.items()} for name, by_seed in tasks.items()}
