"""How long tests wait for what another process does."""

PATIENCE_SECONDS = 400.0
"""After this, a process counts as hanging. No test passes by it: on a busy machine, all takes ten times as long."""
