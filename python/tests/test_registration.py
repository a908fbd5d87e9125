"""What is registered is told apart by the object, not by its source line: nothing replaces another in silence."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, Callable, List

import pytest
from conftest import Serve
from harness import INSTALLED, write_module

from poolworker.hooks import WORKER_START, Hooks

HOOKS = """
from functools import partial
from poolworker import worker_start, worker_stop
ran = []
class Client:
    def __init__(self, name): self.name = name
    def connect(self): ran.append(self.name)
    def __call__(self): ran.append("called " + self.name)
db, cache = Client("db"), Client("cache")
worker_start(db.connect); worker_start(cache.connect)
def opener(name):
    def open_it(): ran.append(name)
    return open_it
for n in ("queue", "search"):
    worker_start(opener(n))
worker_start(lambda: ran.append("one")); worker_start(lambda: ran.append("two"))
worker_start(partial(ran.append, "three")); worker_start(partial(ran.append, "four"))
worker_start(db); worker_start(cache)
worker_start(db.connect)
@worker_stop
@worker_start
def both(): ran.append("both")
@command
def which(): return ran
"""
IN_ORDER = ["db", "cache", "queue", "search", "one", "two", "three", "four", "called db", "called cache", "both"]


def test_p106_all_hooks_run_in_their_order(serve_as: Serve) -> None:
    assert serve_as(HOOKS).call("which").result == IN_ORDER


def test_p106_check_lists_all_hooks(tmp_path: Path) -> None:
    write_module(tmp_path, HOOKS)
    shown = check(tmp_path)
    names = " ".join(shown.partition("worker_start (not run): ")[2].partition("worker_stop")[0].split())
    assert names == (
        "Client.connect, Client.connect, opener.<locals>.open_it, opener.<locals>.open_it, <lambda>, <lambda>, "
        "partial, partial, Client, Client, both"
    )


def check(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-B", INSTALLED, "--module", "user_module", "--check"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout


MADE = """
def quiet(f): return lambda **kw: f(**kw)
def make(n): return lambda: n
class One:
    def go(self): ...
class Two:
    def go(self): ...
"""
TWICE = {
    "a decorator without wraps": ("@command\n@quiet\ndef a(): ...\n@command\n@quiet\ndef b(): ...", (9, 12)),
    "a name twice": ("@command\ndef a(): ...\n@command\ndef a(): ...", (9, 11)),
    "a loop over a factory": ("for n in (1, 2):\n    command(make(n))", (10, 10)),
    "methods": ("command(One().go)\ncommand(Two().go)", (6, 8)),
    "one method of two objects": ("command(One().go)\ncommand(One().go)", (9, 10)),
    "partials": ("from functools import partial\ncommand(partial(int, 1))\ncommand(partial(int, 2))", (10, 11)),
}


@pytest.mark.parametrize("case", TWICE)
def test_two_commands_of_one_name_are_refused_with_both_places(tmp_path: Path, case: str) -> None:
    source, lines = TWICE[case]
    inner = range(3 if "decorator" in case else 1)  # which line of a decorated function it is depends on the Python
    write_module(tmp_path, MADE + source)
    shown = " ".join(check(tmp_path).split())
    file = tmp_path / "user_module.py"
    either = "|".join(f"at {file}:{lines[0] + i} and at {file}:{lines[1] + i}" for i in inner)
    assert re.search(f"is registered twice, ({either})", shown)


def test_a_command_of_a_copied_file_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_module(tmp_path, "@command\ndef a(): return 1", name)
    write_module(tmp_path, "import one, two")
    shown = " ".join(check(tmp_path).split())
    assert re.search(f"is registered twice, at {tmp_path}/one.py:[0-9]+ and at {tmp_path}/two.py:[0-9]+", shown)


PART = """
from poolworker import worker_start
ran = []
def quiet(f): return lambda: f()
@worker_start
@quiet
def start(): ran.append("started")
@command(name="which")
@quiet
def which(): return ran
"""
AGAIN = {
    "reloaded": "importlib.reload(part)",
    "under another name": "spec = util.spec_from_file_location('other', part.__file__)\n"
    "spec.loader.exec_module(util.module_from_spec(spec))",
}


@pytest.mark.parametrize("how", AGAIN)
def test_a_module_that_is_loaded_again_replaces_what_it_registered(serve: Serve, tmp_path: Path, how: str) -> None:
    write_module(tmp_path, PART, "part")
    worker = serve(f"import importlib, part\nfrom importlib import util\n{AGAIN[how]}")
    assert worker.call("which").result == ["started"]


def _factory(kept: List[int], n: int) -> Callable[[], Any]:
    return partial(kept.append, n)


def test_hooks_of_one_object_run_once_and_of_equal_ones_each() -> None:
    kept: List[int] = []
    hooks = Hooks()
    same = _factory(kept, 1)
    for hook in (same, _factory(kept, 2), same, _factory(kept, 2)):
        hooks.add(WORKER_START, hook)
    hooks.begin(WORKER_START, "m", lambda hook: hook())
    assert kept == [1, 2, 2]
