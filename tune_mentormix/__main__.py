"""`python -m tune_mentormix COMMAND`: how a job on a cluster starts, where only the packages are."""

from tune_mentormix.cli.app import main

if __name__ == "__main__":
    main()
