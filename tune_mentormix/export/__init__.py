"""A folder that stands on its own: configuration, weights, provenance and the commands to reproduce them.

`write` makes it from a search, `read` opens and checks it. `manifest` names its files and their digests, `model_card`
has the texts for people and for the reference code. `train` trains an exported configuration in full; `evaluate`
measures exported weights and predicts labels.
"""
