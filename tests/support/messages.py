"""Lists every message of the packages, with its file and line: `python -m tests.support.messages`.

A message is the text of an exception that is raised on purpose, of a line of the log, of a printed line, or of a
string that is built into one. Values stand in braces, as in the source.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("tune_mentormix", "trainables", "search_spaces")
PRINTERS = ("print", "print_error", "print_note", "echo", "warning", "error", "info", "confirm")


@dataclass(frozen=True)
class Message:
    """One message as it stands in the source."""

    path: str
    line: int
    kind: str  # the class of the exception, or the function that prints
    text: str

    def __str__(self) -> str:
        """Formats it as one line."""
        return f"{self.path}:{self.line}: {self.kind}: {self.text}"


def messages() -> list[Message]:
    """Returns all messages, by file and line."""
    files = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return [message for path in files for message in messages_of(path)]


def messages_of(path: Path) -> Iterator[Message]:
    """Yields the messages of one file."""
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    tree = ast.parse(path.read_text(encoding="utf-8"))
    thrown = {id(node.exc) for node in ast.walk(tree) if isinstance(node, ast.Raise)}
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not call.args:
            continue
        kind = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        raised = id(call) in thrown or kind.endswith("Error")
        if not raised and kind not in PRINTERS:
            continue
        for argument in call.args if raised else call.args[:1]:
            text = _text(argument)
            if text and " " in text.strip():
                yield Message(name, call.lineno, kind, text)


def _text(node: ast.expr) -> str:
    """Returns the text of an expression, with what is put into it in braces; empty where none stands there."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(
            f"{{{ast.unparse(part.value)}}}" if isinstance(part, ast.FormattedValue) else _text(part)
            for part in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        return _text(node.left) + (_text(node.right) if isinstance(node.op, ast.Add) else "")
    if isinstance(node, ast.IfExp):
        return " | ".join(filter(None, (_text(node.body), _text(node.orelse))))
    return ""


if __name__ == "__main__":
    print(*dict.fromkeys(map(str, messages())), sep="\n")
