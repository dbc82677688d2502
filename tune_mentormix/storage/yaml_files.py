"""Reads YAML safely and strictly, with the line of every key for error messages; writes it atomically.

Strict means that duplicate keys, aliases, tags and files over one megabyte are refused. A settings file needs none of
them, and each hides a mistake or an attack. Plain words are read as in YAML 1.2: `yes`, `1:30` and a date are texts,
`010` is ten. But `1e5` and `0o7` stay texts, as PyYAML takes them: experiments may have such names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from trainables.errors import one_line
from trainables.files import refuse_pipe
from tune_mentormix.errors import RequestError
from tune_mentormix.storage.paths import Location, write_atomically

MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class YamlDocument:
    """A mapping read from YAML, and the line of each key, counted from 1, by its path of keys."""

    values: dict[str, Any]
    source: str
    lines: dict[tuple[str, ...], int] = field(default_factory=dict)

    def place(self, *path: str) -> str:
        """Returns where a key is, for a message: `search.yaml, line 12`."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.source}, line {self.lines[path]}" if path else self.source


def read_yaml(path: Location) -> YamlDocument:
    """Reads one mapping from a file. Raises RequestError if that is impossible, or a key stands twice."""
    try:
        if isinstance(path, Path):
            refuse_pipe(path)
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise RequestError(f"{path} has {size:,} bytes; a settings file has at most {MAX_BYTES:,}")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RequestError(f"cannot read {path}: {one_line(error)}") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} is not YAML: it is not UTF-8 text") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> YamlDocument:
    """Reads one mapping from text; `source` names it in messages. Raises RequestError as `read_yaml` does."""
    lines: dict[tuple[str, ...], int] = {}
    try:
        loader = _StrictLoader(text, source)
        node = loader.get_single_node()
        _note_lines(node, (), source, lines)
        values = loader.construct_document(node) if node else None
    except RecursionError as error:
        raise RequestError(f"{source} is not a settings file: it is nested too deep") from error
    except (yaml.YAMLError, ValueError) as error:
        raise RequestError(f"{source} is not YAML: {_summary(error)}") from error
    if not isinstance(values, dict):
        got = "nothing" if values is None else f"a {'list' if isinstance(values, list) else 'single value'}"
        raise RequestError(f"{source} must hold `key: value` lines, got {got}")
    return YamlDocument(values, source, lines)


def write_yaml(path: Location, values: dict[str, Any], schema: str | None = None) -> None:
    """Writes a mapping atomically; `schema` is the path from the file to its JSON schema, for editors."""
    head = f"# yaml-language-server: $schema={schema}\n" if schema else ""
    write_atomically(path, head + dump_yaml(values))


def dump_yaml(values: dict[str, Any], width: int = 80) -> str:
    """Returns a mapping as YAML text, with its keys in their order."""
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=width))


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases, with which a small file can hold a huge value, and without tags."""

    def __init__(self, text: str, source: str) -> None:
        super().__init__(text)
        self._source = source

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise RequestError(f"{self._source} uses a YAML alias (*name); write the value out instead")
        event = self.peek_event()  # type: ignore[no-untyped-call]
        tag = getattr(event, "tag", None)
        if tag is not None:
            place = f"{self._source}, line {event.start_mark.line + 1}"
            shown = tag.replace("tag:yaml.org,2002:", "!!")[:40]
            raise RequestError(f"{place}: {shown!r} is a YAML tag; write the value without it")
        return super().compose_node(parent, index)


_NUMBER = r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
_PLAIN_WORDS = {  # YAML 1.2, section 10.3; what is longer than a number can sensibly be stays text
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]{1,300}|0x[0-9a-fA-F]{1,300}", "-+0123456789"),
    "float": (_NUMBER, "-+.0123456789"),
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
}
_StrictLoader.yaml_implicit_resolvers = {}
for _tag, (_pattern, _first) in _PLAIN_WORDS.items():
    _StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), list(_first))
_StrictLoader.add_constructor(
    "tag:yaml.org,2002:int", lambda _, node: int(node.value, 16 if node.value.startswith("0x") else 10)
)


def _note_lines(
    node: yaml.Node | None, path: tuple[str, ...], source: str, lines: dict[tuple[str, ...], int]
) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        key_path = (*path, str(key.value))
        line = key.start_mark.line + 1
        if key.tag != "tag:yaml.org,2002:str":
            got = f"{key.value[:60]!r} without quotes" if isinstance(key, yaml.ScalarNode) else "a list or mapping"
            raise RequestError(f"{source}, line {line}: a key must be text, got {got}")
        if key_path in lines:
            raise RequestError(f"{source}, line {line}: {key.value!r} stands twice (first on line {lines[key_path]})")
        lines[key_path] = line
        _note_lines(value, key_path, source, lines)


def _summary(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem} (line {error.problem_mark.line + 1})"
    return one_line(error)
