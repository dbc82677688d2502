"""The commands that a user types, and what they print.

`app` is the program: it collects the commands and turns exceptions into one line and an exit code. The commands are
in `search` (search, resume, status, trials, list), `choices` (spaces, networks, datasets, schema), `results`
(confirm, report, compare), `export` (export, train, evaluate, predict), `jobs` (submit, jobs, logs, stop) and `admin`
(serve, delete, gc, repair). `options` makes their options from the settings; `console`, `tables` and `progress` print
for them. Each command parses, calls the package that does the work, and prints what it returns. `status`, `list` and
`trials` start fast: a command imports what is slow (NumPy, torch, Ray, Optuna) when it is called.
"""
