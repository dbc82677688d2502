"""One HTML page about a search, and one that compares several.

`page` collects what was found and writes it, `plots` draws its plots as `figures`, `label_noise` shows the noise of
the data. A page needs no other file and no network.
"""
