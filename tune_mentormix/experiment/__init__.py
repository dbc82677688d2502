"""An experiment directory: what a search leaves, and all that is read from it.

`create` makes one, `experiment` reads one back: it replays the journal's events (`events`) into an `Experiment` with
its trials (`trial`). `provenance` records code, packages and data; `optuna_study` rebuilds the Optuna study.
"""
