"""What a program with guarded streams does when they cannot be written: tried in processes of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

GUARDED = """
import sys, threading
from tune_mentormix.output import guarded, lost_streams, open_closed_streams
open_closed_streams()
with guarded("stderr"), guarded("stdout", lambda reason: print("lost:", reason, file=sys.stderr)):
    for number in range(20_000):
        print("a line of output", number)
    sys.stdout.flush()
    writer = threading.Thread(target=print, args=("from a thread",), kwargs={"file": sys.stderr, "flush": True})
    writer.start(); writer.join()
record = open(sys.argv[1], "w")
print(sorted(lost_streams().items()), file=record)
"""


def outcome(tmp_path: Path, redirection: str, code: str = GUARDED) -> tuple[int, str, str]:
    record = tmp_path / "record"
    command = f'"$0" -c "$1" "$2" {redirection}'
    ran = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command, sys.executable, code, str(record)],
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.returncode, ran.stderr, record.read_text().strip()


@pytest.mark.parametrize(
    ("redirection", "told", "lost"),
    [
        ("| head -1", "lost: Broken pipe\nfrom a thread\n", "[('stdout', 'Broken pipe')]"),
        (">/dev/full", "lost: No space left on device\nfrom a thread\n", "[('stdout', 'No space left on device')]"),
        ("2>/dev/full", "", "[('stderr', 'No space left on device')]"),
        (">&-", "from a thread\n", "[]"),
        ("2>&-", "", "[]"),
        (">&- 2>&- <&-", "", "[]"),
        ("", "from a thread\n", "[]"),
    ],
)
def test_a_program_goes_on_without_its_output_and_knows_what_was_lost(
    tmp_path: Path, redirection: str, told: str, lost: str
) -> None:
    assert outcome(tmp_path, redirection) == (0, told, lost)


def test_a_file_does_not_take_the_number_of_a_stream_that_was_closed(tmp_path: Path) -> None:
    code = """
import os, sys
from tune_mentormix.output import open_closed_streams
open_closed_streams()
record = open(sys.argv[1], "w")
os.write(1, b"for stdout"); os.write(2, b"for stderr"); print(sys.stdin.read(), file=record)
"""
    assert outcome(tmp_path, ">&- 2>&- <&-", code) == (0, "", "")
