"""Hooks in spawned workers, in --check and --call. What forked workers do, internal/pool/worker shows."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import List

import pytest
from conftest import Serve
from harness import INSTALLED, write_module

from poolworker import frames, shared
from poolworker.hooks import Hooks

HOOKS = """
import poolworker
happened = []
@poolworker.worker_stop
def last(): print("stop last")
@poolworker.worker_stop
async def first(): print("stop first", poolworker.worker_id())
@poolworker.worker_stop
def broken(): raise ValueError("no")
@poolworker.worker_start
async def start(): happened.append("start " + poolworker.worker_id())
@poolworker.preload
def load(): happened.append("preload")
@command
def seen(): return happened
"""


@pytest.mark.parametrize("end", ["end of input", "shutdown", "SIGTERM"])
def test_p106_hooks_of_a_spawned_worker(serve: Serve, end: str) -> None:
    worker = serve(HOOKS + "import atexit\natexit.register(print, 'atexit')\n")
    assert worker.call("seen").result == ["preload", "start a-1"]
    if end == "end of input":
        worker.close_input()
    elif end == "shutdown":
        worker.send(frames.SHUTDOWN)
    else:
        worker.process.terminate()
    assert worker.exit_code() == (143 if end == "SIGTERM" else 0)
    stderr = worker.stderr()
    order = [
        stderr.index(text) for text in ("hook broken failed", "ValueError: no", "stop first a-1", "stop last", "atexit")
    ]
    assert order == sorted(order)


def test_p106_a_stop_that_hangs_is_bounded(serve: Serve) -> None:
    worker = serve("import poolworker, time\n@poolworker.worker_stop\ndef f(): time.sleep(600)\n@command\ndef g(): ...")
    worker.close_input()
    assert worker.exit_code() == -14


@pytest.mark.parametrize("moment", ["preload", "worker_start"])
def test_p106_a_hook_that_raises_is_a_failed_start(start: Serve, moment: str) -> None:
    source = f"import poolworker\n@poolworker.{moment}\ndef f(): raise ValueError('no')\n@command\ndef g(): ..."
    worker = start(source + "\n@poolworker.worker_stop\ndef h(): print('stopped')")
    answer = worker.init("user_module")
    assert answer.type == "system_error/worker_boot_failed"
    assert answer.message == f"the {moment} hook f of user_module failed: ValueError: no"
    assert "user_module.py" in answer.body["context"]["traceback"]
    assert worker.exit_code() == 3
    assert "stopped" not in worker.stderr()


async def _async() -> None: ...


def _takes(argument: int) -> int:
    return argument


@pytest.mark.parametrize(("moment", "function"), [("preload", _async), ("worker_start", _takes), ("worker_stop", 1)])
def test_what_cannot_be_a_hook_is_refused(moment: str, function: object) -> None:
    with pytest.raises(TypeError, match=f"@{moment}"):
        Hooks().add(moment, function)  # type: ignore[arg-type]


def _look(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", INSTALLED, "--module", "user_module", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_p106_check_lists_hooks_and_call_runs_them(tmp_path: Path) -> None:
    write_module(tmp_path, HOOKS)
    checked = _look(tmp_path, "--check").stdout
    for line in ("preload (ran): load", "worker_start (not run): start", "worker_stop (not run): last, first, broken"):
        assert f"        {line}\n" in checked
    assert "stop last" not in checked
    called = _look(tmp_path, "--call", "seen", "{}")
    assert called.stdout == '["preload","start "]\n'
    assert "stop last" in called.stderr


def test_p102_what_a_fork_would_share_is_found() -> None:
    found: List[str] = shared.find(-1)
    left, right = socket.socketpair()
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    wait = threading.Event()
    thread = threading.Thread(target=wait.wait, name="pump")
    thread.start()
    try:
        more = [entry for entry in shared.find(left.fileno()) if entry not in found]
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        assert [entry for entry in more if entry.startswith("connected")] == [
            "connected socket to an unnamed unix socket (a socketpair, or an event loop's own)",
            f"connected socket to {address}",
        ]
        assert "thread pump" in more
        assert any(entry.startswith(f"child process {child.pid} ") for entry in more)
    finally:
        wait.set()
        thread.join()
        child.communicate(b"\n")
        for s in (left, right, listener, client):
            s.close()
    assert shared.find(-1) == found
    assert os.getpid() not in shared._candidates()
