"""The program: all commands, the log on stderr, and exceptions as one line and an exit code."""

from __future__ import annotations

import errno
import logging
import os
import sys
from typing import Annotated

import typer

from trainables.errors import one_line
from tune_mentormix import __version__
from tune_mentormix.cli import admin, choices, console, export, jobs, results, search, verification
from tune_mentormix.cli.options import describe_usage, examples
from tune_mentormix.errors import DONE, FAILED, INTERRUPTED, WRONG_REQUEST, RequestError, SearchFailedError
from tune_mentormix.output import guarded, open_closed_streams
from tune_mentormix.storage.paths import StorageError

app = typer.Typer(
    epilog=examples("search", "search --help", "status digits --watch"),
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
for commands in (search, choices, results, verification, export, jobs, admin):
    app.add_typer(commands.app)

# Spellings of earlier versions, which still work and are not shown.
OLD_SPELLINGS = {"--num-samples": "--trials", "--address": "--ray-address"}
DASHBOARD_COMMANDS = ("submit", "jobs", "logs", "stop", "serve")  # whose `--address` was that of the dashboard


def print_version(asked: bool) -> None:
    """Prints the version and exits, if it was asked for."""
    if asked:
        console.stdout.print(f"tune-mentormix {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=print_version)
]


@app.callback()
def tune_mentormix(version: Version = False) -> None:
    """Find the MentorMix settings for your noisy-labelled images."""


def main(default: str = "--help") -> None:
    """The console script; `default` is run where no command is given."""
    open_closed_streams()
    with guarded("stderr"):
        code = run(sys.argv[1:] or [default])
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Runs one command and returns its exit code; an error that a user can cause becomes one line on stderr."""
    show_log()
    try:
        code = int(app(with_new_spellings(arguments), standalone_mode=False) or DONE)
        sys.stdout.flush()
        return code
    except typer.TyperException as error:
        console.print_error(describe_usage(error))
        return WRONG_REQUEST
    except RequestError as error:
        console.print_error(str(error))
        return WRONG_REQUEST
    except StorageError as error:
        console.print_error(f"{error} (--storage)")
        return WRONG_REQUEST
    except SearchFailedError as error:
        console.print_error(str(error))
        return FAILED
    except (KeyboardInterrupt, typer.Abort):
        console.print_note("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has left, such as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        if error.filename is not None:
            console.print_error(f"cannot use {error.filename}: {one_line(error)}")
            return WRONG_REQUEST
        if error.errno not in (errno.ENOSPC, errno.EIO):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        console.print_error(f"cannot write: {one_line(error)}; free space, or send the output elsewhere")
        return FAILED


def with_new_spellings(arguments: list[str]) -> list[str]:
    """Returns the arguments of a command with options of earlier versions renamed."""
    command = next((word for word in arguments if not word.startswith("-")), "")
    spellings = OLD_SPELLINGS | ({"--address": "--dashboard"} if command in DASHBOARD_COMMANDS else {})
    split = [word.partition("=") for word in arguments]
    return ["".join((spellings.get(word, word), equals, value)) for word, equals, value in split]


class ConsoleHandler(logging.Handler):
    """Prints what library code logs on stderr, a line each: warnings as notes, errors as errors."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one record."""
        if record.levelno >= logging.ERROR:  # the process is about to end, without taking down a live table
            console.stderr.show_cursor()
        (console.print_error if record.levelno >= logging.ERROR else console.print_note)(record.getMessage())


def show_log() -> None:
    """Shows the warnings and errors of this package on the terminal."""
    package = logging.getLogger("tune_mentormix")
    if not any(isinstance(handler, ConsoleHandler) for handler in package.handlers):
        package.addHandler(ConsoleHandler(logging.WARNING))
        package.propagate = False
