"""Bytes that survive.

`paths` gives folders and object stores one interface. `yaml_files` reads and writes settings. `journal` is the
append-only record of a search, kept by one of the `journal_backends`: a file on disk, or segments on an object
store. `lease` makes sure that a single process writes an experiment.
"""
