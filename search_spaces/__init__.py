"""Search spaces that ship with the project: one YAML file each, one line a hyperparameter."""
