"""What a search takes over from an earlier one: results that its sampler is told, or configurations to try first.

`read_start` reads what `start_from` names; once the data are known, `settle_start` decides which of the two it is.
Results count as this search's own only where its trials would have trained in the same way: on equal data, with equal
settings, but for what is searched and for the seed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainables.errors import PluginError, one_line, shorten
from trainables.files import sha256_of
from trainables.plugins import source_digests
from trainables.settings import TrialSettings, metric_key
from tune_mentormix.config.search_space import SearchSpace, resolve_space
from tune_mentormix.config.settings import EarlierResults, EarlierTrial, SearchSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import SEARCH_FILE, Experiment, read_experiment
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.export.read import read_exported
from tune_mentormix.search.study import MIN_SOURCE_TRIALS, SAMPLERS_THAT_LEARN
from tune_mentormix.storage.listing import has_file

MAX_WARM_STARTS = 5  # from an earlier experiment

logger = logging.getLogger(__name__)


def read_start(settings: SearchSettings, space: SearchSpace) -> SearchSettings:
    """Returns the settings with all that they need of `start_from`, which may be deleted from then on.

    Raises RequestError if it is neither an export nor an experiment, or if nothing in it lies in the space.
    """
    path = settings.start_from
    if path is None or settings.first_trials or settings.earlier_results:
        return settings
    if not has_file(path / SEARCH_FILE):
        config = read_exported(path).config.model_dump()
        return settings.model_copy(update={"first_trials": _first_trials([config], space, path)})
    earlier = _earlier_results(read_experiment(path.parent, path.name), metric_key(settings.metric))
    if not any(space.values_inside(earlier.config(trial)) for trial in earlier.trials):
        raise RequestError(_nothing_inside(path, space))
    return settings.model_copy(update={"earlier_results": earlier})


def settle_start(settings: SearchSettings, space: SearchSpace, fingerprint: str) -> SearchSettings:
    """Keeps the earlier results that the sampler is told, or else tries their best configurations first.

    `fingerprint` is that of the data. What was done, and why, is logged in one line. Raises RequestError if there are
    neither results to tell nor configurations that lie in the space.
    """
    earlier = settings.earlier_results
    if earlier is None:
        return settings
    told = [trial for trial in earlier.trials if _difference(earlier.config(trial), settings, space) is None]
    reason = _why_not_told(earlier, told, settings, space, fingerprint)
    if reason:
        finished = [earlier.config(trial) for trial in earlier.trials if trial.ran_to_its_end]
        first = settings.first_trials or _first_trials(finished, space, Path(earlier.experiment))
        logger.warning(
            "start_from %s: its best %s first, and the sampler is not told its results, since %s",
            earlier.name,
            f"{len(first)} configurations run" if len(first) > 1 else "configuration runs",
            reason,
        )
        return settings.model_copy(update={"first_trials": first, "earlier_results": None})
    left_out = len(earlier.trials) - len(told)
    others = f"; it is not told {left_out} that lie outside the space or have other settings" if left_out else ""
    logger.warning(
        "start_from %s: the sampler is told %s, and trains no configuration of it again%s",
        earlier.name,
        f"its {len(told)} results" if len(told) > 1 else "its one result",
        others,
    )
    kept = earlier.model_copy(update={"trials": told})
    return settings.model_copy(update={"earlier_results": kept})


def _earlier_results(experiment: Experiment, metric: str) -> EarlierResults:
    """Returns all trials of an experiment that tell about its space, and those that it was told itself."""
    settings, space = resolve_space(experiment.settings)
    common = _in_full(settings.common_trial_settings() | space.fixed)
    ranked = [trial for trial in experiment.ranked_trials() if not trial.is_baseline]
    others = [trial for trial in experiment.trials.values() if not trial.is_baseline and trial not in ranked]
    trials = [_as_earlier(trial, common, space, metric) for trial in [*ranked, *others] if _tells_something(trial)]
    before = settings.earlier_results
    if before and before.metric == metric:
        trials += [
            trial.model_copy(update={"values": _what_differs(before.config(trial), common, space)})
            for trial in before.trials
        ]
    return EarlierResults(
        experiment=str(experiment.path),
        metric=metric,
        fingerprint=experiment.provenance.dataset.fingerprint,
        digests=experiment.provenance.plug_ins | experiment.provenance.weights,
        common=common,
        trials=trials,
    )


def _tells_something(trial: Trial) -> bool:
    """Whether a trial has ended by its own doing; one whose workers were lost tells nothing."""
    return trial.has_ended and not trial.worker_lost


def _as_earlier(trial: Trial, common: dict[str, Any], space: SearchSpace, metric: str) -> EarlierTrial:
    scores = {epoch: report.get(metric) for epoch, report in trial.reports.items()}
    epoch = max((epoch for epoch, score in scores.items() if score is not None), default=0)
    return EarlierTrial(
        values=_what_differs(_in_full(trial.config), common, space),
        ran_to_its_end=trial.state == "finished",
        epoch=epoch,
        score=scores.get(epoch),
    )


def _in_full(values: dict[str, Any]) -> dict[str, Any]:
    """All settings of a trial but its seed, as this version has them."""
    known = {name: value for name, value in values.items() if name in TrialSettings.model_fields}
    return TrialSettings.model_construct(**known).model_dump(exclude={"seed"}, warnings=False)


def _what_differs(config: dict[str, Any], common: dict[str, Any], space: SearchSpace) -> dict[str, Any]:
    """The searched part of a configuration, and whatever else is not as in all trials."""
    return {name: value for name, value in config.items() if name in space.distributions or value != common.get(name)}


def _first_trials(configs: list[dict[str, Any]], space: SearchSpace, path: Path) -> list[dict[str, Any]]:
    """The configurations, the best first, that lie in the space. Raises RequestError if none does."""
    found: list[dict[str, Any]] = []
    for config in configs:
        values = space.values_inside(config)
        if values is not None and values not in found:
            found.append(values)
    if not found:
        raise RequestError(_nothing_inside(path, space))
    return found[:MAX_WARM_STARTS]


def _nothing_inside(path: Path, space: SearchSpace) -> str:
    searched = ", ".join(space.distributions)
    return f"nothing in {path} lies in this search's space of {searched} (--start-from)"


def _why_not_told(
    earlier: EarlierResults,
    told: list[EarlierTrial],
    settings: SearchSettings,
    space: SearchSpace,
    fingerprint: str,
) -> str | None:
    """Why the sampler is not told the earlier results; None if it is."""
    if settings.sampler not in SAMPLERS_THAT_LEARN:
        return f"sampler {settings.sampler} learns from no results"
    if earlier.fingerprint != fingerprint:
        return "it was searched on other data, or another split or noise of them"
    if changed := _changed_source(earlier, settings):
        return changed
    metric = metric_key(settings.metric)
    if earlier.metric != metric or all(trial.score is None for trial in earlier.trials):
        return f"its {metric} is not known"
    if not told:
        return next(_differences(earlier, settings, space), "none of its trials lies in the space")
    finished = sum(trial.ran_to_its_end and trial.score is not None for trial in told)
    if settings.sampler == "cmaes" and finished < MIN_SOURCE_TRIALS:
        return f"sampler cmaes needs {MIN_SOURCE_TRIALS} trials that ran to the end, and it has {finished}"
    return None


def _changed_source(earlier: EarlierResults, settings: SearchSettings) -> str | None:
    kinds = {name: kind for name, kind in settings.plugins().items() if kind != "dataset"}  # the fingerprint tells
    try:
        now = source_digests(kinds)
    except PluginError as error:
        raise RequestError(str(error)) from error
    changed = next((name for name in now if earlier.digests.get(name) != now[name]), None)
    if changed:
        return f"the source of {kinds[changed]} {changed} is not what it was"
    weights = changed_weights(earlier.digests, settings)
    return weights and f"weights {weights} are not what they were"


def changed_weights(recorded: Mapping[str, str], settings: SearchSettings) -> str | None:
    """Returns the first weights file that is not as recorded, by its path; None: all are, or none was recorded.

    Raises RequestError if one cannot be read.
    """
    for path in settings.weights_files():
        try:
            if recorded.get(str(path), now := sha256_of(path)) != now:
                return str(path)
        except OSError as error:
            raise RequestError(f"weights {path} cannot be read: {one_line(error)}") from error
    return None


def _differences(earlier: EarlierResults, settings: SearchSettings, space: SearchSpace) -> Iterator[str]:
    for trial in earlier.trials:
        difference = _difference(earlier.config(trial), settings, space)
        if difference:
            yield difference


def _difference(config: dict[str, Any], settings: SearchSettings, space: SearchSpace) -> str | None:
    """In what a configuration is none that this search could propose; None: it is one. Empty: by its place alone."""
    common = _in_full(settings.common_trial_settings() | space.fixed)
    for name, value in common.items():
        if name not in space.distributions and config[name] != value:
            return f"it has {name} {shorten(config[name])}, and this search {shorten(value)}"
    return None if space.values_inside(config) is not None else ""
