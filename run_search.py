"""The entry: `python run_search.py COMMAND`. Without a command it runs the default search. See `--help`."""

from tune_mentormix.cli.app import main

if __name__ == "__main__":
    main(default="search")
