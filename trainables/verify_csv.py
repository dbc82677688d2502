"""verify.csv: images that a person is asked about, the label of each in the data, and the person's answer.

It imports neither NumPy nor torch: commands that read a search's results import it, too.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.errors import DatasetError, one_line
from trainables.files import refuse_pipe

COLUMNS = ("image", "given", "answer")
CANNOT_TELL = "?"  # an answer, too: nobody needs to look at the image again
MAX_BYTES = 50_000_000


@dataclass(frozen=True)
class VerifyRow:
    """One line of verify.csv."""

    image: str
    given: str
    answer: str  # empty: not answered


def format_verify_csv(rows: Iterable[VerifyRow]) -> str:
    """Returns the text of verify.csv."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((row.image, row.given, row.answer) for row in rows)
    return stream.getvalue()


def read_verify_csv(path: Path) -> list[VerifyRow]:
    """Reads the lines of a verify.csv. Raises DatasetError if it cannot be read, or lacks a column."""
    try:
        refuse_pipe(path)
        if path.stat().st_size > MAX_BYTES:
            raise DatasetError(f"{path} has more than {MAX_BYTES:,} bytes: it is no verify.csv")
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or [])]
            if missing:
                raise DatasetError(f"{path} has no column {missing[0]!r}; it needs {', '.join(COLUMNS)}")
            rows = []
            for row in reader:
                if None in row or None in row.values():
                    fields = len(reader.fieldnames or [])
                    found = len([value for value in row.values() if isinstance(value, str)]) + len(row.get(None, []))
                    raise DatasetError(f"{path}, line {reader.line_num} must have {fields} fields, got {found}")
                rows.append(VerifyRow(*(row[column] for column in COLUMNS)))
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {one_line(error)}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is no CSV file in UTF-8: {one_line(error)}") from error
    return rows


def match_answer(answer: str, class_names: Sequence[str]) -> str | None:
    """Returns the class that an answer names, or `CANNOT_TELL`; None for anything else.

    Spaces around a name and its capitals count only where classes differ in nothing else.
    """
    known = {name.strip().casefold(): name for name in (*class_names, CANNOT_TELL)}
    return answer if answer in class_names else known.get(answer.strip().casefold())
