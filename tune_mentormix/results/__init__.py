"""The findings of searches: the best trials, statistics, confirmations, comparisons.

`summary` compares the best trial with the controls, `confirmation` reads a confirmation and names its winner,
`comparison` sets several searches side by side. `statistics` holds intervals and tests; `label_quality` estimates
the label noise, and `clean_terms` what an accuracy is worth on clean labels. `evaluation_log` records each use of
the test set. `cleanup` finds checkpoints that are no longer needed, `repair` cuts damaged lines out of a journal.
All of it is computed from experiments; nothing here trains or prints.
"""
