"""Streams: chunks and the credit that they flow by, from workers that serve one request at a time and several."""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import time
from typing import Any, List, Tuple

import pytest
from conftest import Serve
from harness import GENERATION, PATIENCE, Reply, Worker, codec_names

from poolworker import frames

HANDLERS = """
import asyncio, sys, time
import poolworker

def count(n, step, begin):
    for i in range(n):
        begin and print("yields", i, flush=True)
        yield i
        time.sleep(step)

@command(name="sync")
def sync(n, step=0, begin=False):
    try:
        yield from count(n, step, begin)
    finally:
        print("closed", flush=True)

@command(name="async")
async def asynchronous(n, step=0, begin=False):
    try:
        for i in count(n, 0, begin):
            yield i
            await asyncio.sleep(step)
    finally:
        await asyncio.sleep(0)
        print("closed", flush=True)

@command
def returned(n): return (i for i in range(n))

@command
async def async_returned(n): return asynchronous(n)

@command
async def async_returned_sync(n): return returned(n)

@command
def mapped(n): return map(int, range(n))

@command
def plain(value): return value

@command
def fails(after):
    yield from range(after)
    raise poolworker.UpstreamError("enough")

@command
async def fails_async(after):
    for i in range(after):
        yield i
    raise ValueError("enough")

@command
def bad_item():
    try:
        yield 1
        yield object()
    finally:
        print("closed", flush=True)

@command
def sized(sizes):
    for size in sizes:
        yield "x" * (size - 2)

@command
async def one_task():
    '''A timeout begun at one item ends at another, which only works in one task.'''
    task = asyncio.current_task()
    for _ in range(3):
        yield task is asyncio.current_task()

@command
async def deaf():
    try:
        while True:
            try:
                yield 1
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                print("deaf", flush=True)
    finally:
        print("closed", flush=True)

@command
def leaves():
    yield 1
    sys.exit(9)

@command
async def seen(): return poolworker.context().session
"""

STREAMS = ["sync", "async", "returned", "async_returned", "async_returned_sync", "mapped"]


@pytest.fixture(params=[1, 4], ids=["one at a time", "several"])
def worker(serve: Serve, request: pytest.FixtureRequest) -> Worker:
    served: Worker = serve(HANDLERS, concurrency=request.param)
    return served


def begin(worker: Worker, command: str, /, idle: str = "", **arguments: Any) -> int:
    meta = f"{command}\0{idle}".encode()
    return worker.send(frames.REQUEST, json.dumps(arguments).encode(), meta, flags=frames.FLAG_STREAM)


def give(worker: Worker, id: int, credit: int) -> None:
    worker.channel.write(frames.encode(frames.CREDIT, GENERATION, id, struct.pack(">I", credit)))


def chunk(worker: Worker, id: int) -> Any:
    frame = worker.read()
    assert frame is not None, f"the worker ended; its stderr: {worker.stderr()}"
    assert (frame.kind, frame.generation, frame.id, frame.flags) == (frames.CHUNK, GENERATION, id, 0), frame
    return json.loads(frame.payload)


def silent(worker: Worker) -> bool:
    return not worker.channel._unread and not select.select([worker.read_fd], [], [], 0.2)[0]


def take(worker: Worker, id: int) -> Tuple[List[Any], Reply]:
    """Take a stream to its end, giving back the credit of each item."""
    items: List[Any] = []
    while True:
        frame = worker.read()
        assert frame is not None, f"the worker ended; its stderr: {worker.stderr()}"
        assert (frame.generation, frame.id) == (GENERATION, id)
        if frame.kind != frames.CHUNK:
            return items, Reply(frame.kind, json.loads(frame.payload))
        items.append(json.loads(frame.payload))
        give(worker, id, frames.chunk_cost(len(frame.payload)))


@pytest.mark.parametrize("command", STREAMS)
def test_p109_all_items_come_in_order(worker: Worker, command: str) -> None:
    for n in (0, 1, 300):
        assert take(worker, begin(worker, command, n=n)) == (list(range(n)), Reply(frames.RESULT, n))
    assert worker.call("plain", value="kept").result == "kept"


@pytest.mark.parametrize("command", STREAMS)
def test_p109_whoever_wants_no_stream_gets_a_list(worker: Worker, command: str) -> None:
    assert worker.call(command, n=300).result == list(range(300))
    assert worker.call(command, n=0).result == []
    batch = b'{"inputs": [{"n": 2}, {"n": 0}]}'
    id = worker.send(frames.REQUEST, batch, command.encode(), flags=frames.FLAG_BATCH)
    assert worker.reply(id).result == {"outputs": [{"result": [0, 1]}, {"result": []}]}


def test_p109_a_list_over_the_limit_ends_its_generator(serve: Serve) -> None:
    for concurrency in (1, 4):
        worker = serve(HANDLERS, concurrency=concurrency, maxPayload=100)
        for command in ("sync", "async"):
            before = worker.stderr().count("closed")
            assert worker.call(command, n=10**9).type == "communication_error/frame_too_large"
            worker.stderr_until("closed", before + 1)
        assert worker.call("sync", n=3).result == [0, 1, 2]


def test_p109_a_result_that_is_no_stream_is_one_chunk(worker: Worker) -> None:
    assert take(worker, begin(worker, "plain", value=[1, 2])) == ([[1, 2]], Reply(frames.RESULT, 1))
    flags = frames.FLAG_STREAM | frames.FLAG_BATCH
    id = worker.send(frames.REQUEST, b'{"inputs": [{"n": 2}]}', b"sync\0", flags=flags)
    assert take(worker, id) == ([{"outputs": [{"result": [0, 1]}]}], Reply(frames.RESULT, 1))


@pytest.mark.parametrize("command", ["sync", "async"])
def test_p109_nothing_is_sent_without_credit(worker: Worker, command: str) -> None:
    id = begin(worker, command, n=100, begin=True)
    assert [chunk(worker, id) for _ in range(16)] == list(range(16))
    assert silent(worker)
    assert "yields 16\n" in worker.stderr_until("yields 16\n")
    assert "yields 17" not in worker.stderr(), "the handler stays where it yields"
    give(worker, id, 3)
    assert [chunk(worker, id) for _ in range(3)] == [16, 17, 18]
    assert silent(worker)
    give(worker, id, 1000)
    assert take(worker, id) == (list(range(19, 100)), Reply(frames.RESULT, 100))
    give(worker, id, 1)  # late, as the end was on its way
    give(worker, 999, 1)
    assert worker.call("plain", value=1).result == 1


def test_p109_a_chunk_costs_what_it_weighs(worker: Worker) -> None:
    id = begin(worker, "sized", sizes=[3 * 4096, 4096 * 12 + 1, 3, 3])
    for size in (3 * 4096, 4096 * 12 + 1):  # 3, and 13 of the 13 that are left
        assert len(chunk(worker, id)) == size - 2
    assert silent(worker)
    give(worker, id, 1)
    assert chunk(worker, id) == "x"
    assert silent(worker)
    give(worker, id, 1)
    assert take(worker, id) == (["x"], Reply(frames.RESULT, 4))


def test_p109_an_error_after_chunks_is_the_end(worker: Worker) -> None:
    items, end = take(worker, begin(worker, "fails", after=20))
    assert (items, end.type, end.message) == (list(range(20)), "communication_error/upstream_error", "enough")
    items, end = take(worker, begin(worker, "fails_async", after=3))
    assert (items, end.type, end.message) == ([0, 1, 2], "communication_error/python_error", "ValueError: enough")
    assert "in fails_async" in end.body["context"]["traceback"]
    items, end = take(worker, begin(worker, "bad_item"))
    assert (items, end.type) == ([1], "communication_error/python_error")
    worker.stderr_until("closed")
    assert take(worker, begin(worker, "nothing"))[1].type == "request_error/unknown_command"
    assert take(worker, begin(worker, "sync", m=1))[1].type == "request_error/invalid_payload"
    assert worker.call("plain", value=1).result == 1


def test_p109_a_chunk_over_the_limit(serve: Serve) -> None:
    for concurrency in (1, 4):
        worker = serve(HANDLERS, concurrency=concurrency, maxPayload=100)
        items, end = take(worker, begin(worker, "sized", sizes=[100, 101]))
        assert ([len(item) for item in items], end.type) == ([98], "communication_error/frame_too_large")


def test_p109_an_async_generator_runs_in_one_task(worker: Worker) -> None:
    assert take(worker, begin(worker, "one_task"))[0] == [True] * 3


@pytest.mark.parametrize("command", ["sync", "async"])
@pytest.mark.parametrize("how", ["input", "shutdown"])
def test_p109_who_has_gone_ends_the_stream(worker: Worker, command: str, how: str) -> None:
    id = begin(worker, command, n=10**9)
    assert [chunk(worker, id) for _ in range(16)] == list(range(16))
    if how == "shutdown":
        worker.send(frames.SHUTDOWN)
    worker.close_input()
    worker.stderr_until("closed")
    assert worker.exit_code() == 0


@pytest.mark.parametrize("command", ["sync", "async"])
def test_p109_an_interrupt_closes_the_generator(serve: Serve, command: str) -> None:
    worker = serve(HANDLERS)
    id = begin(worker, command, n=10, step=60)
    assert chunk(worker, id) == 0
    os.kill(worker.process.pid, signal.SIGINT)
    answer = worker.reply(id)
    assert answer.message == "KeyboardInterrupt"
    worker.stderr_until("closed")
    id = begin(worker, command, n=100)  # one that meets it between two items: the rest isn't sent
    assert [chunk(worker, id) for _ in range(16)] == list(range(16))
    os.kill(worker.process.pid, signal.SIGINT)
    give(worker, id, 100)
    items, end = take(worker, id)
    assert (len(items) < 2, end.message) == (True, "KeyboardInterrupt")
    assert take(worker, begin(worker, command, n=20))[0] == list(range(20))


@pytest.mark.parametrize("command", ["sync", "async"])
def test_p109_a_reader_that_closes_its_end_ends_a_large_chunk(serve: Serve, command: str) -> None:
    worker = serve(HANDLERS.replace("yield i\n", "yield 'x' * 900000\n"))
    id = begin(worker, command, n=10)
    assert len(chunk(worker, id)) == 900000
    give(worker, id, 1000)
    assert select.select([worker.read_fd], [], [], PATIENCE)[0]
    os.close(worker.read_fd)
    worker.channel._read_fd = -1
    worker.stderr_until("closed")
    assert worker.exit_code() == 0


@pytest.mark.parametrize("command", ["sync", "async"])
def test_p109_sigterm_closes_the_generator(worker: Worker, command: str) -> None:
    id = begin(worker, command, n=10**9)
    assert [chunk(worker, id) for _ in range(16)] == list(range(16))
    if command == "sync" and worker.concurrency > 1:
        pytest.skip("a thread is nobody's to interrupt")
    time.sleep(0.05)  # then it waits for credit: a signal just before that is seen when something comes
    os.kill(worker.process.pid, signal.SIGTERM)
    worker.stderr_until("closed")
    assert worker.exit_code() == 143


def test_p109_sys_exit_in_a_stream_ends_the_worker(worker: Worker) -> None:
    id = begin(worker, "leaves")
    assert chunk(worker, id) == 1
    assert worker.read() is None
    assert worker.exit_code() == 9


BREACHES = {
    "a request": frames.encode(frames.REQUEST, GENERATION, 99, b"{}", b"plain"),
    "a credit of another generation": frames.encode(frames.CREDIT, GENERATION + 1, 1, b"\0\0\0\1"),
    "a credit with flags": frames.encode(frames.CREDIT, GENERATION, 1, b"\0\0\0\1", flags=frames.FLAG_STREAM),
    "a credit that is none": frames.encode(frames.CREDIT, GENERATION, 1, b"\1"),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_p109_what_is_no_credit_ends_the_worker(worker: Worker, breach: str) -> None:
    if breach == "a request" and worker.concurrency > 1:
        pytest.skip("it is served beside the stream")
    id = begin(worker, "sync", n=100)
    assert [chunk(worker, id) for _ in range(16)] == list(range(16))
    worker.channel.write(BREACHES[breach])
    assert worker.exit_code() == 4


# Several at once


@pytest.mark.parametrize("command", ["sync", "async"])
def test_p109_a_slow_reader_blocks_no_other(serve: Serve, command: str) -> None:
    worker = serve(HANDLERS, concurrency=3)
    slow = begin(worker, command, n=100)
    assert [chunk(worker, slow) for _ in range(16)] == list(range(16))
    for _ in range(3):
        assert take(worker, begin(worker, command, n=100))[0] == list(range(100))
        assert worker.call("plain", value=1).result == 1
    give(worker, slow, 16)
    assert take(worker, slow) == (list(range(16, 100)), Reply(frames.RESULT, 100))


@pytest.mark.parametrize("command", ["sync", "async", "deaf"])
def test_p109_a_cancel_ends_a_stream_where_it_yields(serve: Serve, command: str) -> None:
    worker = serve(HANDLERS, concurrency=2)
    id = begin(worker, command) if command == "deaf" else begin(worker, command, n=100)
    for _ in range(16):
        chunk(worker, id)
    worker.channel.write(frames.encode(frames.CANCEL, GENERATION, id))
    assert worker.reply(id).type == "request_error/cancelled"
    worker.stderr_until("closed")
    assert take(worker, begin(worker, "sync", n=20))[0] == list(range(20))


def test_p109_each_stream_has_its_own_context(serve: Serve) -> None:
    worker = serve(HANDLERS, concurrency=2)
    flags = frames.FLAG_STREAM | frames.FLAG_CONTEXT
    id = worker.send(frames.REQUEST, b"{}", b"seen\0s1\0\x00250000", flags=flags)
    assert take(worker, id)[0] == ["s1"]


@pytest.mark.parametrize("codec", codec_names())
def test_what_is_yielded_takes_as_much_memory_as_its_json(serve: Serve, codec: str) -> None:
    """A codec's results can hold far more than their length: kept one by one, 60,000 of orjson's take 250 MB."""
    worker = serve(
        """
        @command
        def rows(n):
            for i in range(n): yield {"id": i}
        @command
        def peak():
            with open("/proc/self/status") as file:
                return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
        """,
        env={"POOLWORKER_CODEC": codec},
        maxPayload=2 << 20,
    )
    assert len(worker.call("rows", n=10).result) == 10
    before = worker.call("peak").result
    worker.channel.max_payload = 2 << 20
    assert len(worker.call("rows", n=60_000).result) == 60_000
    assert worker.call("peak").result - before < 16 << 10
    assert worker.call("rows", n=10**9).type == "communication_error/frame_too_large"
    assert worker.call("peak").result - before < 24 << 10
