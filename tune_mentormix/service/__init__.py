"""`serve`: pages and an API over the experiments of a storage and the jobs of a cluster.

`server` binds `app`, which puts `pages` and `api` behind `auth`. `experiments` keeps the experiments read, `jobs`
the cluster's jobs; `admission` decides which settings a user may submit, within the limits of `settings`.
`artifacts` makes reports and exports, `sse` streams events. The process imports neither torch nor Ray nor Optuna.
"""
