"""The pages name modules, classes and other pages that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("tune_mentormix", "trainables")
CODE_PAGES = [ROOT / "docs/structure.md", ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks/results/README.md"])

FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


@cache
def defined_names() -> frozenset[str]:
    """Classes, functions, methods (`Class.method`) and constants of both packages."""
    names = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef):
                    methods = [child.name for child in node.body if isinstance(child, ast.FunctionDef)]
                    names |= {node.name, *(f"{node.name}.{method}" for method in methods)}
                elif isinstance(node, ast.FunctionDef):
                    names.add(node.name)
                elif isinstance(node, ast.Assign | ast.AnnAssign):
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return frozenset(names)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    texts = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}


def annotated_tree() -> list[tuple[str, str]]:
    """The README's tree: each folder or module with its path, and what is written beside it."""
    [tree] = re.findall(r"## Where everything is\n.*?```text\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    entries, folders = [], [""] * 4
    for line in tree.splitlines():
        name, _, text = line.strip().partition(" ")
        depth = (len(line) - len(line.lstrip())) // 4
        path = "".join(folders[:depth]) + name
        folders[depth] = name if name.endswith("/") else ""
        entries.append((path, text.strip()))
    return entries


@pytest.mark.parametrize("page", CODE_PAGES, ids=name_of)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    spans = CODE.findall(prose(page))
    paths = [span for span in spans if re.fullmatch(r"[\w./-]+(\.(py|md|yaml|sh|toml)|/)", span)]
    bases = [ROOT, *(ROOT / package for package in PACKAGES)]
    made_by_users = {"results/", ".boot/", ".venv/", "search.yaml"}
    assert [p for p in paths if p not in made_by_users and not any((base / p).exists() for base in bases)] == []


@pytest.mark.parametrize("page", CODE_PAGES, ids=name_of)
def test_every_class_and_table_that_a_page_names_exists(page: Path) -> None:
    spans = CODE.findall(prose(page))
    named = [s for s in spans if re.fullmatch(r"[A-Z][a-z]+[A-Za-z]*(\.[a-z_]+)?|[A-Z][A-Z_]+S", s)]
    assert [name for name in named if name not in defined_names() | {"ARGS", "EXTRAS"}] == []


def test_the_drawing_of_an_event_names_methods_that_exist() -> None:
    [drawing] = re.findall(r"## How an event travels\n\n```text\n(.*?)```", CODE_PAGES[0].read_text(), re.DOTALL)
    methods = re.findall(r"[A-Z]\w+\.[a-z_]+", drawing)
    assert len(methods) >= 6
    assert set(methods) <= defined_names()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists() or (anchor and anchor not in anchors(linked)):
            broken.append(target)
    assert broken == []


def test_the_tree_in_the_readme_has_every_package_and_only_modules_that_exist() -> None:
    paths = [path for path, _ in annotated_tree()]
    packages = {f"{name_of(path.parent)}/" for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")}
    assert {path for path in paths if path.startswith(PACKAGES) and path.endswith("/")} == packages
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert all(text for _, text in annotated_tree())
    assert len(paths) == len(set(paths))


def test_every_concept_is_defined_once() -> None:
    headings = re.findall(r"^### (.+)$", (ROOT / "docs/concepts.md").read_text(), re.MULTILINE)
    assert len(headings) == len(set(headings))
    for term in ("Journal", "Rung", "Control", "Driver", "Lease", "Candidate", "Trial", "Run", "Attempt", "Study"):
        assert term in headings
