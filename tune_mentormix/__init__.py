"""Distributed hyperparameter search for MentorMix on noisy labels.

>>> import tune_mentormix as tm
>>> experiment = tm.search(name="birds", dataset="folder", data_dir="birds")  # doctest: +SKIP

`search`, `resume` and `open` return an experiment, `load` an exported model; docs/python.md shows their use.
Importing this package imports neither torch nor Ray.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tune_mentormix.api import ExperimentHandle, Model, load, open, resume, search
    from tune_mentormix.errors import RequestError, SearchFailedError

__version__ = "0.1.0"
__all__ = [
    "ExperimentHandle",
    "Model",
    "RequestError",
    "SearchFailedError",
    "__version__",
    "load",
    "open",
    "resume",
    "search",
]

# Ray reads these once, when it is imported, so they are set before anything here can import it.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # or `uv run` has workers build a second environment
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray sends no usage statistics
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # a trial sees the GPUs it was given, and no others
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # of the two, the output that `verbose=0` silences
os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "1000000")  # our searcher proposes no more trials than can run
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # `search` stops cleanly on SIGINT and SIGTERM itself
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the journal is the record, not one file a trial
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "86400")  # Tune's own snapshot of all trials, which nothing reads
os.environ.setdefault("RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE", "1")  # only `search.searcher` retries

# Loading the package `search` binds its name here, once; from then on the name is that of the function.
import_module(f"{__name__}.search")
globals().pop("search")
_MODULES = {"RequestError": "errors", "SearchFailedError": "errors"}  # of the public names; all others: `api`


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'api')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
