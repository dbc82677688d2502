"""All messages of the packages, as `tests/support/messages.py` collects them."""

import re
from pathlib import Path

import pytest

from tests.support.messages import Message, messages, messages_of

PYTHON_WORDS = re.compile(r"\b(None|dict|str|NoneType|TypeError|KeyError|ValueError|kwargs|isinstance|traceback)\b")
# A line whose end is another text: an exception's reason, or a command to paste.
ENDS = re.compile(r"[\w)}\]'\"`%.>?…:*/×]$|\\n$")
EXPECTED = 350  # messages at least: fewer mean that the script no longer sees them


def test_the_script_sees_what_is_raised_logged_and_printed(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        'raise RequestError(f"{name} is " + "wrong")\nlogger.warning("it is %s", late)\nstdout.print("all is well")\n'
    )
    found = [(message.kind, message.text) for message in messages_of(tmp_path / "a.py")]
    assert found == [("RequestError", "{name} is wrong"), ("warning", "it is %s"), ("print", "all is well")]
    assert len(messages()) > EXPECTED


@pytest.mark.parametrize("message", messages(), ids=str)
def test_a_message_has_the_users_words_and_is_one_line(message: Message) -> None:
    text = re.sub(r"\{[^{}]*\}", "{}", message.text)  # values are another matter
    assert not PYTHON_WORDS.search(text)
    assert "\n" not in text.strip("\n")
    assert ENDS.search(text.rstrip(" |")), text
    if message.kind.endswith("Error"):
        assert not text.endswith("."), "what follows in parentheses would stand behind the full stop"
