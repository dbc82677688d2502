"""The report of a search as one HTML file that needs nothing else: no network, no scripts, no fonts to load.

`page` puts it together; a module a section says what is in it; `templates/` is how it reads. Torch and Ray are not
imported.
"""
