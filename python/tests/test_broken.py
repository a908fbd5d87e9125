"""User code that breaks what its worker runs on: the worker keeps it whole, or ends with a reason."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from conftest import Serve
from harness import GENERATION, Worker

from poolworker import frames

LOOP = """
import asyncio, os, signal, threading
from poolworker import worker_start

@worker_start
async def start():
    global loop, opened
    loop = asyncio.get_running_loop()
    opened = loop.create_future()

def coroutine(): return asyncio.sleep(0, 2)

def nested():
    try:
        loop.run_until_complete(coroutine())
    except RuntimeError:
        pass

WAYS = {
    "close": lambda: loop.close(),
    "stop": lambda: loop.stop(),
    "no current loop": lambda: asyncio.set_event_loop(None),
    "another current loop": lambda: asyncio.set_event_loop(asyncio.new_event_loop()),
    "asyncio.run": lambda: asyncio.run(coroutine()),
    "another policy": lambda: asyncio.set_event_loop_policy(None),
    "nested": nested,
    "as asyncio.run does it": lambda: as_run_does(),
    "stop from a thread": lambda: in_thread(lambda: loop.call_soon_threadsafe(loop.stop)),
    "default executor": lambda: asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop),
    "signal handlers": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    "wakeup descriptor": lambda: signal.set_wakeup_fd(-1),
    "environment": lambda: os.environ.clear(),
    "folder": lambda: os.chdir("/"),
    "standard streams": lambda: [os.close(fd) for fd in (0, 1)],
}

def in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()

def as_run_does():
    try:
        for task in asyncio.all_tasks(loop): task.cancel()
        if not loop.is_running():
            loop.run_until_complete(coroutine())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()

def do(way):
    try:
        WAYS[way]()
    except Exception as error:
        return repr(error)

@command
def here(way): return do(way)

@command
async def inside(way): return do(way)

@command
async def cancel_all():
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()

@command
async def ask(n):
    await asyncio.wait([opened], timeout=0.001)
    await asyncio.to_thread(int) if hasattr(asyncio, "to_thread") else None
    return n + 1

@command
def ask_here(n): return n + 1

@command
async def stream():
    for n in range(3):
        await asyncio.sleep(0)
        yield n

@command
def forget_loop(): type(loop).close(loop)

@command
async def close_descriptors(first, last): os.closerange(first, last)
"""
WAYS = [line.split('"')[1] for line in LOOP.partition("WAYS = {")[2].partition("}\n")[0].splitlines() if '"' in line]


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("where", ["here", "inside"])
def test_a_worker_serves_on_whatever_is_done_to_its_loop(serve_as: Serve, where: str, concurrency: int) -> None:
    worker = serve_as(LOOP, concurrency=concurrency)
    assert len(WAYS) == 15
    for way in WAYS:
        if concurrency > 1 and way == "signal handlers":
            continue  # of the main thread alone
        done = worker.call(where, way=way)
        assert done.kind == frames.RESULT or way == "as asyncio.run does it", done  # which cancels itself, too
        assert worker.call("ask", n=1).result == 2, way
        assert worker.call("ask_here", n=1).result == 2, way
        assert worker.call("stream").result == [0, 1, 2], way
    worker.send(frames.SHUTDOWN)
    assert worker.exit_code() == 0


def test_a_handler_that_cancels_all_tasks_ends_no_worker(serve_as: Serve) -> None:
    worker = serve_as(LOOP, concurrency=4)
    for _ in range(2):
        assert worker.call("cancel_all").result is None
        assert worker.call("ask", n=1).result == 2


def test_a_loop_that_is_closed_in_spite_of_its_guard_ends_the_worker_with_a_reason(serve: Serve) -> None:
    worker = serve(LOOP)
    assert worker.call("ask", n=1).result == 2
    assert worker.call("forget_loop").result is None
    id = worker.send(frames.REQUEST, b'{"n": 1}', b"ask")
    assert worker.read() is not None, "the innocent request is answered"
    assert id == worker.next_id
    assert worker.exit_code() == 5
    assert "poolworker: the module has closed the event loop of the worker; the worker ends" in worker.stderr()


@pytest.mark.parametrize(("first", "concurrency"), [(3, 1), (3, 4), (512, 1), (512, 4)])
def test_a_worker_whose_descriptors_are_closed_ends_with_a_reason(serve: Serve, first: int, concurrency: int) -> None:
    worker = serve(LOOP, concurrency=concurrency)
    worker.send(frames.REQUEST, json.dumps({"first": first, "last": 1024}).encode(), b"close_descriptors")
    while worker.read() is not None:
        pass
    assert worker.exit_code() == 5
    assert worker.stderr().startswith("poolworker: ")
    assert "the worker ends" in worker.stderr() or "; it ends" in worker.stderr()


BROKEN = """
import functools, gc, inspect, json, marshal, os, re, select, signal, socket, struct, threading, time, traceback, types
from poolworker import deadline, worker_stop

def broken(*_, **__): raise RuntimeError("broken by the module")

def break_all():
    kept = {"os": {"fspath"}, "threading": {"_shutdown", "_register_atexit"}}
    for module in (time, json, os, struct, select, signal, socket, marshal, gc, inspect, re, traceback):
        for name, value in list(vars(module).items()):
            if isinstance(value, (types.FunctionType, types.BuiltinFunctionType)) and not name.startswith("_"):
                if name not in kept.get(module.__name__, ()):
                    setattr(module, name, broken)

@command
def echo(value=None): return value

@command
def typed(n: "int | None" = None, names: dict = None) -> int: return n

@command
def fail(): raise ValueError("its own")

@command
def left(): return deadline()

@command
def each(n):
    for i in range(n): yield i

@command
def wreck(): break_all()

@worker_stop
def stop(): print("stopped")
"""


@pytest.mark.parametrize("when", ["at import", "in a handler"])
def test_a_module_that_breaks_the_standard_library_breaks_no_worker(serve_as: Serve, when: str) -> None:
    worker = serve_as(BROKEN + ("break_all()" if when == "at import" else ""))
    if when == "in a handler":
        assert worker.call("wreck").result is None
    still_whole(worker)


def still_whole(worker: Worker) -> None:
    assert worker.call("echo", value={"a": [1, 2.5, None]}).result == {"a": [1, 2.5, None]}
    assert worker.call("typed", n=3.0).result == 3
    assert worker.call("typed", n="3").message.startswith("n: expected an integer or null, got a string; it is typed(")
    failure = worker.call("fail")
    assert failure.message == "ValueError: its own"
    assert "in fail" in failure.body["context"]["traceback"]
    assert worker.call("nothing").type == "request_error/unknown_command"
    assert worker.call("each", n=3).result == [0, 1, 2]
    meta = worker.send(frames.REQUEST, b"{}", b"left", budget=60_000_000)
    assert 0 < worker.reply(meta).result <= 60
    id = worker.send(frames.REQUEST, b'{"inputs": [{"value": 1}, {"x": 1}]}', b"echo", flags=frames.FLAG_BATCH)
    frame = worker.read()
    assert frame is not None
    assert (frame.kind, frame.id) == (frames.RESULT, id)
    worker.channel.write(frames.encode(frames.PING, GENERATION, 99))
    assert worker.read() == frames.Frame(frames.PONG, GENERATION, 99, 0, b"", b"")
    worker.send(frames.SHUTDOWN)
    assert worker.exit_code() == 0
    assert "stopped" in worker.stderr()


@pytest.mark.parametrize("concurrency", [1, 4])
def test_broken_clocks_stop_no_async_handler(serve_as: Serve, concurrency: int) -> None:
    worker = serve_as(
        """
import asyncio, time
@command
async def nap():
    await asyncio.sleep(0.001)
    return 1
@command
def echo(): return 2
@command
def wreck(): time.monotonic = time.time = time.sleep = None
""",
        concurrency=concurrency,
    )
    assert worker.call("wreck").result is None
    assert [worker.call("nap").result, worker.call("echo").result] == [1, 2]


def test_p102_a_patched_standard_library_forks(serve_as: Serve, way: str, tmp_path: Path) -> None:
    """What gevent and eventlet do to it: calls that wait, and those that fork, go to a loop of theirs."""
    worker = serve_as(
        """
import os, select, signal, socket, subprocess, threading, time
def hang(*_, **__):
    while True: pass
os.fork = os.waitpid = time.sleep = select.select = select.poll = threading.enumerate = hang
socket.socket = hang
@command
def echo(): return 1
"""
    )
    assert worker.call("echo").result == 1
    assert way in ("spawned", "forked")
    assert os.path.exists(tmp_path)
