"""`serve`: searches over HTTP, as an API and as pages.

`server` checks address and tokens and runs the application that `app` puts together. A route is in a router of
`api`, `pages` or `metrics`, whose `dependencies` decide who may use it (`auth`: tokens, sessions, rates). What it
raises becomes a response in `error_handlers`, and every request a line of `request_logging`. `experiments` keeps the
experiments of the storage in memory, `sse` streams their progress, `artifacts` makes reports and exports. `admission`
checks a submitted search against the `settings` of the server, `jobs` sends it to the cluster. `schemas` are the JSON
shapes.

The service holds no state but sessions: what it shows it reads from experiment directories, and what it starts runs
as jobs of a Ray cluster. It never trains, and imports neither torch nor Ray nor Optuna to read.
"""
