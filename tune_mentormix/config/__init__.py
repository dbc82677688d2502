"""The settings of a search, and their checks.

`settings` holds every setting of a search, with its default and its description; command line, settings files, the
API and the documentation take them from there. `search_space` reads which hyperparameters are searched, `controls`
defines the configurations that a search is compared with, `validation` describes what is wrong with a value.
"""
