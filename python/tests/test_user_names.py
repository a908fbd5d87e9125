"""A module finds in its process what any Python program does: its own files first, and nothing of the worker's."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import List

import pytest
from conftest import Serve
from harness import INSTALLED, codec_names

from poolworker import frames, standard

EVERYTHING = """
import asyncio_free
import poolworker
@poolworker.preload
def load(): ...
@poolworker.worker_start
async def start(): ...
@poolworker.worker_stop
async def stop(): print("stopped")
@command
def echo(value=None): return value
@command
async def wait(value=None): return value
@command
def each(n):
    for i in range(n): yield i
@command
async def each_async(n):
    for i in range(n): yield i
@command
def typed(n: "int | None" = None, *, names: "dict[str, float] | None" = None) -> int: return n
@command
def fail(): raise ValueError("its own")
@command
def syntax(): compile("a b", "f.py", "exec")
@command
def fails_with_cause():
    try: fail()
    except ValueError as error: raise poolworker.UpstreamError("down") from error
"""


def all_names() -> List[str]:
    """The standard library's names, but those that Python itself has loaded before it looks at a path of the user's."""
    at_start = subprocess.run(
        [sys.executable, "-c", "import runpy, site, sys; print(*sys.modules)"],
        stdout=subprocess.PIPE, text=True, check=True,
    ).stdout.split()  # fmt: skip
    return sorted(name for name in standard._standard_names() - set(at_start) if name.isidentifier())


def write_all(folder: Path) -> None:
    for name in all_names():
        (folder / f"{name}.py").write_text(f"raise RuntimeError('{name} of the user was imported')")
    (folder / "asyncio_free.py").write_text("")


@pytest.mark.parametrize("concurrency", [1, 4])
def test_no_name_of_a_standard_module_is_lost_on_the_worker(serve_as: Serve, tmp_path: Path, concurrency: int) -> None:
    write_all(tmp_path)
    worker = serve_as(EVERYTHING, concurrency=concurrency)
    assert [worker.call(name, value=1).result for name in ("echo", "wait")] == [1, 1]
    assert [worker.call(name, n=2).result for name in ("each", "each_async")] == [[0, 1]] * 2
    assert worker.call("typed", n=1, names={}).result == 1
    assert worker.call("typed", names={"a": "b"}).message.startswith("names.a: expected a number, got a string")
    for name, message in (("fail", "ValueError: its own"), ("fails_with_cause", "down")):
        failure = worker.call(name)
        assert failure.message == message
        assert 'raise ValueError("its own")' in failure.body["context"]["traceback"]
    assert worker.call("syntax").message.startswith("SyntaxError: invalid syntax")
    id = worker.send(frames.REQUEST, b'{"inputs": [{}]}', b"echo", flags=frames.FLAG_BATCH)
    frame = worker.read()
    assert frame is not None
    assert (frame.id, frame.payload) == (id, b'{"outputs":[{"result":null}]}')
    id = worker.send(frames.REQUEST, b'{"n": 1}', b"each\x001", flags=frames.FLAG_STREAM)
    chunk, end = worker.read(), worker.read()
    assert chunk is not None
    assert end is not None
    assert (chunk.kind, end.kind) == (frames.CHUNK, frames.RESULT)
    worker.close_input()
    assert worker.exit_code() == 0
    assert "stopped" in worker.stderr()
    assert "of the user" not in worker.stderr()


@pytest.mark.parametrize(
    "arguments", [["--check"], ["--call", "typed", "{}"], ["--call", "wait", "{}"], ["--call", "fail", "{}"]]
)
@pytest.mark.parametrize("path", ["working directory", "PYTHONPATH"])
def test_no_name_of_a_standard_module_is_lost_on_a_look(tmp_path: Path, arguments: List[str], path: str) -> None:
    write_all(tmp_path)
    (tmp_path / "user_module.py").write_text("from poolworker import command\n" + EVERYTHING)
    done = subprocess.run(
        [sys.executable, "-B", INSTALLED, "--module", "user_module", *arguments],
        cwd=tmp_path,
        env={**os.environ, **({"PYTHONPATH": str(tmp_path)} if path == "PYTHONPATH" else {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (arguments[1:2] == ["fail"]), done.stdout + done.stderr
    assert "of the user" not in done.stdout + done.stderr


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_name_of_a_standard_module_is_the_users(serve_as: Serve, tmp_path: Path, concurrency: int) -> None:
    """Also where poolworker has imported the standard one before."""
    names = ["queue", "json", "signal", "struct", "select", "selectors", "logging", "contextvars", "concurrent"]
    for name in names:
        (tmp_path / f"{name}.py").write_text(f"def whose(): return '{name} of the user'")
    source = "".join(f"import {name}\n" for name in names) + f"ALL = [{', '.join(names)}]\n"
    worker = serve_as(
        source
        + "@command\ndef at_import(): return [m.whose() for m in ALL]\n"
        + "@command\ndef later():\n    import queue, json\n    return [queue.whose(), json.whose()]\n"
        + "@command\nasync def wait(): return 1\n",
        concurrency=concurrency,
    )
    for _ in range(2):
        assert worker.call("at_import").result == [f"{name} of the user" for name in names]
        assert worker.call("later").result == ["queue of the user", "json of the user"]
        assert worker.call("wait").result == 1


def test_a_process_whose_user_hides_nothing_is_left_as_it_is() -> None:
    """Other threads, which are the user's, see what is changed."""
    path, finders = list(sys.path), list(sys.meta_path)
    with standard.First(), standard.First("tokenize"):
        assert (sys.path, sys.meta_path) == (path, finders)


def test_threads_that_need_the_standard_library_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "this.py").write_text("")
    before = [str(tmp_path), *sys.path]
    monkeypatch.setattr(sys, "path", list(before))
    came = threading.Event()

    def second() -> None:
        with standard.First():
            came.set()

    thread = threading.Thread(target=second)
    with standard.First():
        assert sys.path != before
        thread.start()
        assert not came.wait(0.1)
    thread.join()
    assert came.is_set()
    assert sys.path == before


@pytest.mark.parametrize("name", codec_names()[:1])
def test_a_pythonpath_still_has_the_codec(serve: Serve, tmp_path: Path, name: str) -> None:
    worker = serve("@command\ndef f(): return 1", env={"PYTHONPATH": str(tmp_path), "POOLWORKER_CODEC": name})
    assert worker.call("f").result == 1


ARGUMENTS = """
import argparse, sys
parser = argparse.ArgumentParser()
parser.add_argument("--model", default="small")
parsed = parser.parse_args()
AT_IMPORT = [list(sys.argv), list(getattr(sys, "orig_argv", []))[1:]]
@command
def which(): return [parsed.model, *AT_IMPORT]
"""
ORIGINAL = ["-m", "user_module"] if sys.version_info >= (3, 10) else []


def test_a_module_sees_no_arguments_of_the_workers(serve_as: Serve) -> None:
    assert serve_as(ARGUMENTS).call("which").result == ["small", ["user_module"], ORIGINAL]


def test_a_module_sees_no_arguments_of_a_check(tmp_path: Path) -> None:
    (tmp_path / "user_module.py").write_text("from poolworker import command\n" + ARGUMENTS)
    for arguments in (["--check"], ["--call", "which", "{}"]):
        command = [sys.executable, "-B", INSTALLED, "--module", "user_module", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("source", "line"), [("sys.exit(2)", 3), ("import argparse\nargparse.ArgumentParser().error('no')", 4)]
)
def test_p6_a_module_that_exits_says_where(start: Serve, tmp_path: Path, source: str, line: int) -> None:
    answer = start(f"import sys\n{source}\n").init("user_module")
    assert answer.message == (
        f"importing user_module failed: SystemExit: 2, raised at {tmp_path / 'user_module.py'}:{line}"
    )


def test_p106_a_hook_that_exits_says_where(start: Serve, tmp_path: Path) -> None:
    worker = start("import poolworker, sys\n@poolworker.worker_start\ndef f(): sys.exit('no')\n@command\ndef g(): ...")
    answer = worker.init("user_module")
    assert answer.message == (
        f"the worker_start hook f of user_module failed: SystemExit: no, raised at {tmp_path / 'user_module.py'}:4"
    )


def test_the_modules_descriptors_are_low_and_free(serve_as: Serve) -> None:
    """Nothing of the worker's is where a module's own first descriptors go."""
    worker = serve_as(
        """
import os
AT_IMPORT = sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}"))
@command
def open_at_import(): return [fd for fd in AT_IMPORT if fd < 512]
"""
    )
    assert worker.call("open_at_import").result == [0, 1, 2]
