"""Stacks for a supervisor whose request takes too long."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path
from typing import Dict

import pytest
from harness import PATIENCE, Worker, write_module

from poolworker import frames
from poolworker.stacks import END, SIGNAL


def ask(worker: Worker, stack: Dict[str, int], until: str) -> str:
    """Read what the worker tells of its stacks, as the supervisor does, up to a text."""
    pipe = os.open(f"/proc/{worker.process.pid}/fd/{stack['fd']}", os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.kill(worker.process.pid, stack["signal"])
        told, end = "", time.monotonic() + PATIENCE
        while until not in told:
            assert select.select([pipe], [], [], end - time.monotonic())[0], f"{until!r} isn't told: {told}"
            told += os.read(pipe, 65536).decode("ascii")
        return told
    finally:
        os.close(pipe)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_p30_stack_of_a_suspended_task(tmp_path: Path, concurrency: int) -> None:
    write_module(
        tmp_path,
        """
        import asyncio
        @command
        async def outer():
            open("begun", "w").close()
            await inner("secret")
        async def inner(key):
            await asyncio.sleep(600)
        """,
    )
    with Worker(tmp_path) as worker:
        stack = worker.init("user_module", concurrency=concurrency).result["stack"]
        id = worker.send(frames.REQUEST, b"{}", b"outer")
        wait_for(tmp_path / "begun")
        told = ask(worker, stack, END)
        block = told.partition(f"Request {id if concurrency > 1 else 0} ")[2]
        assert block.index("line 9 in inner") < block.index("line 7 in outer")
        assert "secret" not in told


def test_p30_stack_of_a_thread(tmp_path: Path) -> None:
    write_module(
        tmp_path,
        """
        import time
        @command
        def nap():
            open("begun", "w").close()
            time.sleep(600)
        """,
    )
    with Worker(tmp_path) as worker:
        stack = worker.init("user_module", concurrency=2).result["stack"]
        id = worker.send(frames.REQUEST, b"{}", b"nap")
        wait_for(tmp_path / "begun")
        block = ask(worker, stack, END).partition(f"Request {id} ")[2]
        assert "line 7 in nap" in block.splitlines()[1]


def test_p30_stack_inside_of_c(tmp_path: Path) -> None:
    write_module(tmp_path, "@command\ndef burn():\n    open('begun', 'w').close()\n    sum(range(10**13))\n")
    with Worker(tmp_path) as worker:
        stack = worker.init("user_module").result["stack"]
        worker.send(frames.REQUEST, b"{}", b"burn")
        wait_for(tmp_path / "begun")
        assert "line 5 in burn" in ask(worker, stack, "in burn")


def test_p30_a_handler_goes_on_after_its_stack_was_told(tmp_path: Path) -> None:
    write_module(
        tmp_path,
        """
        import os, time
        @command
        def hold():
            open("begun", "w").close()
            while not os.path.exists("go"):
                time.sleep(0.01)
            return "held"
        """,
    )
    with Worker(tmp_path) as worker:
        stack = worker.init("user_module").result["stack"]
        id = worker.send(frames.REQUEST, b"{}", b"hold")
        wait_for(tmp_path / "begun")
        for _ in range(20):
            ask(worker, stack, END)
        (tmp_path / "go").touch()
        assert worker.reply(id).result == "held"


def test_p30_nobody_reads_what_is_told(tmp_path: Path) -> None:
    write_module(tmp_path, "import os\n@command\ndef tell(n):\n    for _ in range(n): os.kill(os.getpid(), 60)\n")
    with Worker(tmp_path) as worker:
        assert "stack" in worker.init("user_module").result
        assert worker.call("tell", n=2000).result is None, "a full pipe blocked the worker"


def test_p30_a_module_keeps_the_signal_that_it_has_taken(tmp_path: Path) -> None:
    write_module(
        tmp_path,
        f"""
        import os, signal
        seen = []
        signal.signal({int(SIGNAL)}, lambda *_: seen.append(1))
        @command
        def send():
            os.kill(os.getpid(), {int(SIGNAL)})
            return len(seen)
        """,
    )
    with Worker(tmp_path) as worker:
        assert "stack" not in worker.init("user_module").result
        assert worker.call("send").result == 1


def test_p30_a_forked_child_is_no_worker(tmp_path: Path) -> None:
    write_module(
        tmp_path,
        f"""
        import os, signal
        @command
        def fork():
            pid = os.fork()
            if pid == 0:
                os.kill(os.getpid(), {int(SIGNAL)})
                os._exit(0)
            return os.WTERMSIG(os.waitpid(pid, 0)[1])
        """,
    )
    with Worker(tmp_path) as worker:
        stack = worker.init("user_module").result["stack"]
        assert worker.call("fork").result == SIGNAL
        assert END in ask(worker, stack, END)


def wait_for(path: Path) -> None:
    """Wait until a handler has made the file."""
    end = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} isn't there"
        time.sleep(0.005)
