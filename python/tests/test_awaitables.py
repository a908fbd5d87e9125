"""What has to be awaited is awaited, of whatever type it is: compiled coroutines, futures, objects with __await__."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Serve
from harness import GENERATION, INSTALLED, write_module

from poolworker import frames

SOURCE = """
import asyncio, types
from functools import partial
from poolworker import worker_start, worker_stop

class Compiled:
    '''As a compiled coroutine is: no CoroutineType, but with all that one can do.'''
    def __init__(self, coroutine): self.it = coroutine
    def __await__(self): return self.it.__await__()
    def send(self, value): return self.it.send(value)
    def throw(self, *how): return self.it.throw(*how)
    def close(self): return self.it.close()

class CompiledStream:
    def __init__(self, n): self.n = n
    def __aiter__(self): return self
    def __anext__(self):
        async def next():
            await asyncio.sleep(0)
            self.n -= 1
            if self.n < 0: raise StopAsyncIteration
            return self.n
        return Compiled(next())

def compiled(function): return lambda **kw: Compiled(function(**kw))

async def plain(n=0):
    await asyncio.sleep(0)
    return n + 1

class Callable:
    async def __call__(self, n): return await plain(n)
    async def method(self, n): return await plain(n)

@types.coroutine
def by_generator(n):
    yield from asyncio.sleep(0).__await__()
    return n + 1

async def future(n):
    found = asyncio.get_running_loop().create_future()
    found.set_result(n + 1)
    return await found

class Bare:
    '''Nothing but __await__.'''
    def __init__(self, n): self.n = n
    def __await__(self): return plain(self.n).__await__()

for name, function in {
    "compiled": compiled(plain), "partial": partial(plain), "partial_n": partial(plain, n=4), "object": Callable(),
    "method": Callable().method, "by_generator": by_generator, "future": future, "bare": lambda n: Bare(n),
    "wrapped": lambda n: plain(n), "partial_of_compiled": partial(compiled(plain)),
}.items():
    command(name=name)(function)

@command
def stream(n): return CompiledStream(n)

started = []
async def start(what):
    await asyncio.sleep(0)
    started.append(what)
worker_start(lambda: Compiled(start("compiled")))
worker_start(partial(start, "partial"))
worker_start(lambda: Bare(0))
worker_stop(lambda: Compiled(stop()))
async def stop():
    await asyncio.sleep(0)
    print("stopped")

@command
def which(): return started

@command
def hang():
    async def forever():
        print("hangs")
        try:
            await asyncio.sleep(600)
        finally:
            print("left")
    return Compiled(forever())
"""
NAMES = [
    "compiled", "partial", "object", "method", "by_generator", "future", "bare", "wrapped", "partial_of_compiled",
]  # fmt: skip


@pytest.mark.parametrize("concurrency", [1, 4])
def test_all_that_can_be_awaited_is(serve: Serve, concurrency: int) -> None:
    worker = serve(SOURCE, concurrency=concurrency)
    assert {name: worker.call(name, n=1).result for name in NAMES} == dict.fromkeys(NAMES, 2)
    assert worker.call("partial_n").result == 5
    assert worker.call("stream", n=3).result == [2, 1, 0]
    assert worker.call("which").result == ["compiled", "partial"]
    worker.close_input()
    assert worker.exit_code() == 0
    assert "stopped" in worker.stderr()


def test_p107_a_handler_that_is_found_to_be_async_late_can_be_cancelled(serve: Serve) -> None:
    worker = serve(SOURCE, concurrency=4)
    id = worker.send(frames.REQUEST, b"{}", b"hang")
    worker.stderr_until("hangs")
    worker.channel.write(frames.encode(frames.CANCEL, GENERATION, id))
    assert worker.reply(id).type == "request_error/cancelled"
    worker.stderr_until("left")
    assert worker.call("compiled", n=1).result == 2


ASYNC_PRELOADS = [
    "preload(partial(start))",
    "preload(Object())",
    "preload(lambda: start())",
    "preload(lambda: Bare())",
]


@pytest.mark.parametrize("hook", ASYNC_PRELOADS)
def test_p106_an_async_preload_is_refused_of_whatever_type_it_is(start: Serve, hook: str) -> None:
    worker = start(
        f"""
from functools import partial
from poolworker import preload
async def start(): ...
class Object:
    async def __call__(self): ...
class Bare:
    def __await__(self): yield
{hook}
@command
def f(): ...
"""
    )
    answer = worker.init("user_module")
    assert answer.type == "system_error/worker_boot_failed"
    assert "@preload can't be async" in answer.message


def test_check_calls_async_what_is(tmp_path: Path) -> None:
    write_module(tmp_path, SOURCE)
    done = subprocess.run(
        [sys.executable, "-B", INSTALLED, "--module", "user_module", "--check"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    for name in ("partial", "object", "method", "future"):
        assert f"\n  async {name}(" in done.stdout


@pytest.mark.skipif(importlib.util.find_spec("Cython") is None, reason="Cython isn't installed")
def test_a_compiled_module(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "fast.pyx").write_text(
        """# cython: language_level=3
import asyncio
from poolworker import command, worker_start
started = []
@worker_start
async def start():
    await asyncio.sleep(0)
    started.append(1)
@command
async def add(n):
    await asyncio.sleep(0)
    return n + len(started)
@command
async def each(n):
    for i in range(n):
        await asyncio.sleep(0)
        yield i
"""
    )
    built = [sys.executable, "-m", "Cython.Build.Cythonize", "-i", "-q", "fast.pyx"]
    subprocess.run(built, cwd=tmp_path, check=True, capture_output=True)
    for concurrency in (1, 4):
        worker = serve("from fast import *", concurrency=concurrency)
        assert (worker.call("add", n=1).result, worker.call("each", n=2).result) == (2, [0, 1])
