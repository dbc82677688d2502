"""Bytes that survive.

`paths` gives folders on a disk and on an object store one interface. `yaml_files` reads and writes settings.
`journal` is the append-only event log of an experiment, stored by one of the `journal_backends`: a file on a disk, or
segments on an object store. `lease` makes sure that at most one driver runs an experiment. All of it writes so that a
crash loses nothing that was confirmed, and leaves no file half written.
"""
