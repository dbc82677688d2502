"""One HTML page about a search, and one that compares several.

`page` collects what a search found, `plots` draws its plots as `figures`, `label_noise` shows the noise of the
data. `comparison_page` shows searches side by side. `html` renders the templates; a page needs no other file and no
network.
"""
