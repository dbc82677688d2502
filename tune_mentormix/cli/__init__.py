"""What a user types and sees.

`app` is the program: it collects the commands and turns exceptions into one line and an exit code. The commands lie
in `search` (search, resume, status, trials, list), `results` (confirm, report, compare), `export` (export, train,
evaluate, predict), `jobs` (submit, jobs, logs, stop) and `admin` (serve, gc). `options` makes their options from
the settings; `console`, `tables` and `progress` are the only modules that print. Each command parses, calls the
package that does the work, and prints what it returns.
"""
