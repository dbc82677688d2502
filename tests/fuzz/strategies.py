"""Draws what users mistype and disks damage: settings as YAML, words of a command line, files after a change."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tune_mentormix.cli.options import SEARCH_OPTIONS
from tune_mentormix.config.settings import option_name
from tune_mentormix.config.settings_file import settings_schema
from tune_mentormix.storage.yaml_files import parse_yaml

WORDS = (  # as they stand in a YAML file
    *("yes", "No", "on", "1:30", "010", "0x1F", "0o17", "1e5"),
    *("1e-5", "1_000", "2021-01-01", "2021-99-99", "~", "null"),
    *(".nan", ".inf", "-.inf", "NaN", "nan", "inf", "-0", "-0.0", "1.0e+999", "9" * 400, "-" + "9" * 30, "1.0e-320"),
    *("", "''", '" "', "'x'", '"\\e[31mred\\e[0m"', '"\\x9b31m"'),
    *('"a\\nb"', '"a\\0b"', '"\\u2028"', "ünï", "日本", "👍🏽"),
    *("[]", "{}", "[1]", "[1, a]", "{a: 1}", "[{a: 1}]", "[[[[]]]]"),
    *("{a: {b: {c: [1]}}}", "[null]", "{1: 2}", "[" * 300),
    *("!!bool x", "!!int x", "!!float x", "!!null x", "!!timestamp x", "!!binary '#'", "!!set {a}", "!!omap [a]"),
    *("!!str 1", "!!python/name:os.system", "!own x", "!!seq x"),
    *("!!map [1]", "!!pairs [[a]]", "&a 1", "*a", "<<", "=", "?"),
    *("|\n  text", ">-\n  a\n\n  b", "@x", "`x`", "%x", "- 1", "a: b", "\t1", "'", '"', "}", "# nothing", "5 # five"),
    *("true", "false", "0", "1", "-1", "0.5", "1.0", "1.5", "100", "1000000001", "1e400", "soon", "-5m", "1d", "5 s"),
    *("../x", "/", "~nobody-here/x", "~", "~/x", "/dev/null"),
    *("/dev/zero", "s3://", "s3://u:p@b/x", "ftp://x", "file://x"),
    *("x" * 300, "/".join(["x"] * 3000), "con", ".", "..", "-"),
    *("--help", "digits", "default", "torchvision/resnet18"),
    *("torchvision/", "torchvision/nope", "torchvision/../x", "folder", "arrays", "cifar10", "grid", "{choices: []}"),
)
RECORD = settings_schema()["properties"]
NAMES = sorted(RECORD)
OPTIONS = sorted(option_name(name) for name in SEARCH_OPTIONS)


def _misspelt(word: str) -> st.SearchStrategy[str]:
    places = st.integers(0, max(0, len(word) - 1))
    return st.one_of(
        places.map(lambda place: word[:place] + word[place + 1 :]),
        places.map(lambda place: word[:place] + word[place : place + 1] * 2 + word[place + 1 :]),
        st.sampled_from([word.upper(), word.title(), word.replace("_", "-"), f"{word} ", f"{word}s"]),
    )


def _of_schema(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    """Values that fit a JSON schema, values just outside it, and words near those that it lists."""
    if "anyOf" in schema:
        return st.one_of([_of_schema(part) for part in schema["anyOf"]])
    if "enum" in schema:
        words = st.sampled_from(schema["enum"])
        return st.one_of(words, words.flatmap(_misspelt))
    if schema.get("type") == "array":
        return st.lists(_of_schema(schema.get("items", {})), max_size=3).map(lambda parts: f"[{', '.join(parts)}]")
    bounds = [schema[key] for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum") if key in schema]
    if schema.get("type") == "integer":
        near = st.tuples(st.sampled_from(bounds or [1]), st.integers(-2, 2)).map(sum)
        return st.one_of(near, st.integers(1, 20), st.integers()).map(str)
    if schema.get("type") == "number":
        near = st.tuples(st.sampled_from(bounds or [0.0]), st.floats(-0.1, 0.1)).map(sum)
        return st.one_of(near, st.floats(0, 2), st.floats(allow_nan=True)).map(lambda number: json.dumps(number))
    if schema.get("type") == "object" and "properties" in schema:
        return mapping_of(schema["properties"])
    return st.sampled_from(["true", "false", "a", "{}", "{burn_in: {low: 0, high: 20}}"])


def mapping_of(properties: dict[str, Any]) -> st.SearchStrategy[str]:
    """A mapping in one line, of up to two known keys."""
    keys = st.sampled_from(sorted(properties))
    pair = keys.flatmap(lambda key: value_of(properties[key]).map(lambda value: f"{key}: {value}"))
    return st.lists(pair, max_size=2).map(lambda pairs: f"{{{', '.join(pairs)}}}")


def value_of(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    """A value as it stands in YAML: mostly one that was meant for the setting, else any other."""
    return st.one_of(_of_schema(schema), _of_schema(schema), st.sampled_from(WORDS), st.text(max_size=6))


def _space() -> st.SearchStrategy[str]:
    """A search space in one line."""
    number = st.one_of(st.sampled_from(WORDS), st.floats(0, 40).map(json.dumps), st.integers(-1, 40).map(str))
    entries = st.one_of(
        st.tuples(number, number).map(lambda ends: f"{{low: {ends[0]}, high: {ends[1]}}}"),
        st.tuples(number, number).map(lambda ends: f"{{low: {ends[0]}, high: {ends[1]}, log: true}}"),
        st.tuples(number, number, number).map(lambda a: f"{{low: {a[0]}, high: {a[1]}, step: {a[2]}}}"),
        st.lists(number, max_size=3).map(lambda choices: f"{{choices: [{', '.join(choices)}]}}"),
        number,
    )
    names = st.sampled_from([*sorted(RECORD["trial"]["properties"]), "epochs", "mixup_alpa", "seed"])
    lines = st.lists(st.tuples(names, entries).map(lambda pair: f"{pair[0]}: {pair[1]}"), min_size=1, max_size=3)
    return lines.map(lambda parts: f"{{{', '.join(parts)}}}")


def settings() -> st.SearchStrategy[tuple[str, str]]:
    """A key and its value; the key is mostly one of the settings."""
    named = st.sampled_from(NAMES).flatmap(lambda name: st.tuples(st.just(name), value_of(RECORD[name])))
    spaces = st.tuples(st.just("space"), _space())
    unknown = st.tuples(st.sampled_from(NAMES).flatmap(_misspelt), st.sampled_from(WORDS))
    anything = st.tuples(st.sampled_from(WORDS), st.sampled_from(WORDS))
    return st.one_of(named, named, named, named, spaces, unknown, anything)


def settings_files() -> st.SearchStrategy[bytes]:
    """A settings file, which may be damaged as a whole."""
    lines = st.lists(settings(), max_size=4).map(lambda pairs: "".join(f"{key}: {value}\n" for key, value in pairs))
    return st.tuples(lines, st.sampled_from(WHOLE_FILES)).map(lambda both: both[1](both[0]))


def _bomb(text: str) -> bytes:
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 12))
    return f"l0: &l0 [x, x]\n{levels}{text}".encode()


WHOLE_FILES: tuple[Callable[[str], bytes], ...] = (
    *[str.encode] * 8,
    lambda text: b"\xef\xbb\xbf" + text.encode(),
    lambda text: text.replace("\n", "\r\n").encode(),
    lambda text: text.encode("utf-16"),
    lambda text: text.encode() + b"note: \xe9\xff\n",
    lambda text: text.encode()[: len(text) * 2 // 3],
    lambda text: (text + text).encode(),
    lambda text: f"%YAML 1.1\n---\n{text}...\n".encode(),
    lambda text: f"---\n{text}---\n{text}".encode(),
    lambda text: f"x: &a {{epochs: 3}}\n<<: *a\n{text}".encode(),
    lambda text: f"<<: {{epochs: 3}}\n{text}".encode(),
    lambda text: ("k" * 2000 + f": 1\n{text}").encode(),
    lambda text: f"? {{a: b}}\n: 1\n{text}".encode(),
    lambda text: f"{text}trial:\n\t- 1\n".encode(),
    lambda text: f"{text}a: {'{a: ' * 2000}".encode(),
    lambda text: json.dumps({"epochs": 3, "space": text}).encode(),
    lambda text: b"\x00\x01\x02" + text.encode(),
    lambda text: b"",
    _bomb,
)


def command_lines() -> st.SearchStrategy[list[str]]:
    """The words after `search`: options with values, assignments, and what is neither."""
    names = st.sampled_from(sorted(SEARCH_OPTIONS))
    with_value = names.flatmap(
        lambda name: value_of(RECORD.get(name, {})).map(lambda value: [option_name(name), value])
    )
    assigned = settings().map(lambda pair: ["--set", f"{pair[0]}={pair[1]}"])
    others = st.sampled_from(
        [
            *(["--set", ""], ["--set", "="], ["--set", "=1"], ["--set", "epochs"], ["--set"], ["--exist-ok"]),
            *(["--config", "missing.yaml"], ["--config", ""], ["--config", "."], ["--config", "/dev/null"]),
            *(["--dry-run"], ["--verbose"], ["--unknown"], ["-x"], ["--"], [""], ["extra"], ["--epochs"]),
            *(["--name", "birds"], ["--start-from", "results/birds"], ["--space", "missing.yaml"], ["--trial", "3"]),
        ]
    )
    parts = st.lists(st.one_of(with_value, with_value, assigned, assigned, others), max_size=4)
    return parts.map(lambda groups: [word.replace("\0", "0") for group in groups for word in group])


def other_command_lines() -> st.SearchStrategy[list[str]]:
    """The words of a command that reads or uses what is there: mostly its own options, with anything as value."""
    commands = st.sampled_from(
        [
            *(
                "status birds",
                "trials birds",
                "list",
                "compare birds gulls",
                "report birds",
                "gc birds",
                "repair birds",
            ),
            *("export birds", "confirm birds", "resume birds", "predict best x.png", "evaluate best", "train best"),
            *(
                "serve --tokens none",
                "jobs",
                "logs birds",
                "stop birds",
                "delete birds",
                "schema",
                "spaces",
                "nothing",
            ),
        ]
    )
    options = st.sampled_from(
        [
            *("--limit", "--sort", "--top-k", "--seeds", "--seed", "--weights", "--method", "--split", "--out"),
            *("--study", "--storage", "--port", "--host", "--config", "--dashboard", "--trials", "--time-budget"),
            *("--gpus-per-trial", "--data-dir", "--labels-file", "--certificate", "--tokens", "--number"),
        ]
    )
    harmless = [word for word in WORDS if "/dev/" not in word]  # should a file be written there after all
    with_value = st.tuples(options, st.sampled_from([*harmless, "3", "results", "new", "r.html"])).map(list)
    alone = st.sampled_from(["--json", "--csv", "--watch", "--yes", "--whole", "--onnx", "--insecure", "x", ""]).map(
        lambda word: [word]
    )
    parts = st.lists(st.one_of(with_value, with_value, alone), max_size=3)
    return st.tuples(commands, parts).map(
        lambda both: [*both[0].split(), *(word.replace("\0", "0") for part in both[1] for word in part)]
    )


JUNK: tuple[Any, ...] = (  # in place of a value of JSON
    *(None, True, False, "", "x", "\x1b[31mred", "a\nb", "ü\u2028"),
    *("x" * 5000, "../../x", "/etc/passwd", "\ud800", "yes"),
    *(-1, 0, 1, 3, 7.5, -0.5, 1e308, 10**40, 10**9 + 1, 2**31, 1e-320, float("nan"), float("inf"), float("-inf")),
    *([], {}, [1], ["x"], [[1, 2], [3]], [[]], [[0.5, 0.5], [0.5, 0.5]], {"a": 1}, {"a": {"b": [None]}}, [None]),
)
JUNK_LINES = (  # in place of a line of a journal
    *(b"", b"{}", b"[]", b"null", b"3", b'"x"', b"{", b"\0\0\0\0"),
    *(b"\xff\xfe", b"\xef\xbb\xbf{}", b"\r", b"[" * 5000),
    *(b'{"event":"dance"}', b'{"event":null}', b'{"event":["report"]}', b'{"time":1,"event":"run_ended"}', b"{}" * 9),
    b'{"event":"report","trial":0,"epoch":1,"val_accuracy":' + b"9" * 400 + b"}",
    b'{"event":"finished","trial":1e400}',
    b'{"event":"report","trial":0,"trial":99,"epoch":1,"val_accuracy":0.5}',
    b'{"a":' * 3000,
    b'{"event":"report"',
    b'{"event":"run_started","run":1,"num_samples":1000000000}',
    b'{"event":"proposed","trial":1000000000,"config":{}}',
)


def _paths(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every value of a document stands."""
    entries = document if isinstance(document, list) else []
    below = document.items() if isinstance(document, dict) else enumerate(entries)
    return [path, *(found for key, value in below for found in _paths(value, (*path, key)))]


def changed_documents(document: Any) -> st.SearchStrategy[Any]:
    """A document of JSON in which one value is missing, is another, or is put where none was."""

    def change(path: tuple[Any, ...], how: str, junk: Any) -> Any:
        if not path:
            return junk
        copy = json.loads(json.dumps(document))
        holder = copy
        for key in path[:-1]:
            holder = holder[key]
        if how == "drop":
            del holder[path[-1]]
        elif how == "add" and isinstance(holder, dict):
            holder[f"{path[-1]}s"] = junk
        elif how == "nest":
            holder[path[-1]] = [holder[path[-1]]]
        elif how == "text":
            holder[path[-1]] = str(holder[path[-1]])
        else:
            holder[path[-1]] = junk
        return copy

    hows = st.sampled_from(["drop", "add", "nest", "text", "set", "set", "set", "set"])
    return st.builds(change, st.sampled_from(_paths(document)), hows, st.sampled_from(JUNK))


def changed_lines(content: bytes) -> st.SearchStrategy[bytes]:
    """A file of JSON lines after one change."""
    lines = content.splitlines(keepends=True)
    places = st.integers(0, len(lines) - 1)

    def replaced(place: int, new: list[bytes]) -> bytes:
        return b"".join([*lines[:place], *new, *lines[place + 1 :]])

    def of_a_value(place: int) -> st.SearchStrategy[bytes]:
        documents = changed_documents(json.loads(lines[place]))
        return documents.map(lambda changed: replaced(place, [json.dumps(changed).encode() + b"\n"]))

    of_values = places.flatmap(of_a_value)
    return st.one_of(
        of_values,
        of_values,
        of_values,
        of_values,
        st.tuples(places, st.sampled_from(JUNK_LINES)).map(lambda both: replaced(both[0], [both[1] + b"\n"])),
        places.map(lambda place: replaced(place, [])),
        places.map(lambda place: replaced(place, [lines[place]] * 2)),
        st.tuples(places, places).map(lambda both: _swapped(lines, *both)),
        damaged_files(content),
    )


def changed_yaml(content: bytes) -> st.SearchStrategy[bytes]:
    """A YAML file after one change."""
    document = parse_yaml(content.decode(), "a file").values
    of_values = changed_documents(document).map(lambda changed: json.dumps(changed).encode())
    return st.one_of(of_values, of_values, of_values, damaged_files(content), settings_files())


def changed_json(content: bytes) -> st.SearchStrategy[bytes]:
    """A JSON file after one change."""
    of_values = changed_documents(json.loads(content)).map(lambda changed: json.dumps(changed).encode())
    return st.one_of(of_values, of_values, of_values, damaged_files(content))


def damaged_files(content: bytes) -> st.SearchStrategy[bytes]:
    """A file that lost its end, got other bytes or another encoding, or is empty."""
    places = st.integers(0, len(content))
    text = content.decode()
    return st.one_of(
        places.map(lambda place: content[:place]),
        st.tuples(places, st.binary(min_size=1, max_size=3)).map(
            lambda both: content[: both[0]] + both[1] + content[both[0] + len(both[1]) :]
        ),
        st.sampled_from(
            [
                *(b"", b"\n", b"\0" * 100, b"\xef\xbb\xbf" + content, content.replace(b"\n", b"\r\n")),
                *(text.encode("utf-16"), content + content, content[::-1], text.encode("utf-32")),
            ]
        ),
    )


def _swapped(lines: list[bytes], first: int, second: int) -> bytes:
    swapped = list(lines)
    swapped[first], swapped[second] = swapped[second], swapped[first]
    return b"".join(swapped)
