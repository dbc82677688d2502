"""What a search found.

`summary` compares the best trial with the controls, `confirmation` reads a confirmation and names its winner,
`comparison` sets several searches side by side. `statistics` holds intervals and tests. `cleanup` finds the
checkpoints that are no longer needed. All of it is computed from experiments; nothing here trains or prints.
"""
