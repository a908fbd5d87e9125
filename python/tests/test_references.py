"""poolworker keeps its own references: what user code makes of the standard library's modules changes nothing in it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Iterator, List, Set, Tuple

import poolworker

REGISTERS = {"commands.py", "registration.py"}  # whose code runs while the user's module is imported
SOURCES = sorted(path for path in Path(poolworker.__file__).parent.glob("*.py") if path.name not in REGISTERS)


def _imported(tree: ast.Module) -> Set[str]:
    """The names that stand for modules in all of a file."""
    names = {
        alias.asname or alias.name.partition(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    return names - {"sys"}  # what it holds is meant to change: path, modules, stdout


def _late(tree: ast.Module) -> Iterator[ast.AST]:
    """What runs after the import: the bodies of functions, without annotations, which nobody evaluates."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for statement in node.body:
                for inner in ast.walk(statement):
                    if isinstance(inner, ast.AnnAssign):
                        inner.annotation = ast.Constant(None)
                    elif isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)):
                        inner.args = ast.arguments([], [], None, [], [], None, [])
                        inner.returns = None
                yield from ast.walk(statement)


def _looked_up(source: str) -> List[Tuple[int, str]]:
    tree = ast.parse(source)
    modules = _imported(tree)
    return sorted(
        {
            (node.lineno, f"{node.value.id}.{node.attr}")
            for node in _late(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules
        }
    )


def test_nothing_of_the_standard_library_is_looked_up_in_a_module_once_user_code_runs() -> None:
    found = [f"{path.name}:{line} {name}" for path in SOURCES for line, name in _looked_up(path.read_text("utf-8"))]
    assert len(SOURCES) > 20
    assert found == []


def test_the_check_sees_what_it_is_for() -> None:
    source = "import os, time\nfrom time import sleep\ndef f(a: os.X) -> None:\n  sleep(1)\n  b: os.X = time.time()"
    assert _looked_up(source) == [(5, "time.time")]
