"""Running trials on Ray Tune.

`run` starts or resumes a search: `plan` checks what is asked, `tune_run` runs one Tune experiment on one journal.
`proposals` decides which trial comes next; `searcher` hands it to Ray and retries trials whose worker died. `study`
is the Optuna study, `early_stopping` is ASHA, `stopper` ends the search. Everything that happens goes through
`callbacks` into the journal (`tune_mentormix.storage.journal`), from which a resume rebuilds study, rungs and
trials. `confirm` runs other proposals in the same way.
"""
