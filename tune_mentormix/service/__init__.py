"""`serve`: searches over HTTP, as an API and as pages.

The service holds no state of its own: what it shows it reads from experiment directories, what it starts runs as jobs
of a Ray cluster. It never trains, and imports neither torch nor Ray to read.
"""
