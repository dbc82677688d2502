"""The search service: Ray Tune runs the trials, Optuna proposes them, the journal remembers them.

Nothing here touches a tensor. The reading commands import neither torch nor Ray.
"""

import os

__version__ = "0.1.0"

# Ray reads these once, when it is imported, so they are set before anything here can import it.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # or `uv run` has workers build a second environment
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray sends no usage statistics
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # a trial sees the GPUs it was given, and no others
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # of the two, the output that `verbose=0` silences
os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "1000000")  # our searcher proposes no more trials than can run
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # `search` stops cleanly on SIGINT and SIGTERM itself
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the journal is the record, not one file a trial
os.environ.setdefault("RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE", "1")  # only `search.searcher` retries
