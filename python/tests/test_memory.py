"""Payloads that lie in shared memory, as those of a supervisor do."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any, List

import pytest
from conftest import Serve
from harness import GENERATION, Reply, Worker

from poolworker import frames

AREA = 1 << 20
AT_LEAST = 1000

MODULE = """
import os

@command
def echo(value): return value

@command
def text(size): return "x" * (size - 2)

@command
def fail(size): raise ValueError("x" * size)

def mapped(): return sum("memfd:" in line for line in open("/proc/self/maps"))

def opened(): return [int(fd) for fd in os.listdir("/proc/self/fd") if "memfd:" in link(fd)]

def link(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""

@command
def look(): return [mapped(), len(opened())]

@command
def look_in_child():
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, b"%d %d" % (mapped(), len(opened())))
        os._exit(0)
    os.wait()
    return list(map(int, os.read(read, 100).split()))

@command
def resize(size):
    for fd in opened():
        try:
            os.ftruncate(fd, size)
        except OSError as error:
            return error.errno
"""


@pytest.fixture
def worker(start: Serve) -> Worker:
    """A worker that shares memory."""
    worker = start(MODULE, memory=AREA)
    assert worker.init("user_module", maxPayload=AREA, memory=AT_LEAST).result["memory"] is True
    return worker


def by_memory(worker: Worker, command: str, payload: bytes) -> int:
    """Send a Request whose payload lies in memory; returns its id."""
    os.pwrite(worker.memory_fd, payload, 0)
    return worker.send(frames.REQUEST, reference(len(payload)), command.encode(), flags=frames.FLAG_MEMORY)


def reference(size: int) -> bytes:
    return struct.pack(">I", size)


def answer(worker: Worker, id: int) -> frames.Frame:
    """Return the frame that answers the request of that id, a reference as it is."""
    frame = worker.read()
    assert frame is not None, f"the worker ended; its stderr: {worker.stderr()}"
    assert (frame.id, frame.generation, frame.meta) == (id, GENERATION, b"")
    return frame


def read(worker: Worker, frame: frames.Frame) -> Reply:
    """Read an answer from memory, where it must lie."""
    assert frame.flags == frames.FLAG_MEMORY
    (size,) = struct.unpack(">I", frame.payload)
    return Reply(frame.kind, json.loads(os.pread(worker.memory_fd, size, 0)))


def test_p113_handshake_says_which_way_payloads_go(start: Serve) -> None:
    for memory, told, answers in [(AREA, AT_LEAST, True), (AREA, 0, None), (0, AT_LEAST, None)]:
        worker = start(MODULE, memory=memory)
        assert worker.init("user_module", memory=told).result.get("memory") is answers
        assert worker.call("look").result == ([1, 1] if answers else [0, 0])


@pytest.mark.parametrize("size", [12, AT_LEAST - 1, AT_LEAST, 70_000, AREA])
def test_p113_requests_and_results_of_any_size(worker: Worker, size: int) -> None:
    value = "".join(chr(97 + i * i % 23) for i in range(size - len('{"value":""}')))
    payload = json.dumps({"value": value}, separators=(",", ":")).encode()
    assert len(payload) == size
    for id in (by_memory(worker, "echo", payload), worker.send(frames.REQUEST, payload, b"echo")):
        frame = answer(worker, id)
        if len(value) + 2 < AT_LEAST:
            assert frame == frames.Frame(frames.RESULT, GENERATION, id, 0, b"", json.dumps(value).encode())
        else:
            assert read(worker, frame).result == value


@pytest.mark.parametrize("size", [AT_LEAST - 1, AT_LEAST, AREA, AREA + 1])
def test_p113_results_at_the_limits(worker: Worker, size: int) -> None:
    frame = answer(worker, by_memory(worker, "text", b'{"size":%d}' % size))
    if size > AREA:
        assert Reply(frame.kind, json.loads(frame.payload)).type == "communication_error/frame_too_large"
    else:
        assert (frame.flags == frames.FLAG_MEMORY) is (size >= AT_LEAST)
        result = read(worker, frame).result if frame.flags else json.loads(frame.payload)
        assert result == "x" * (size - 2)


def test_p113_errors_of_any_size_go_by_pipe(worker: Worker) -> None:
    frame = answer(worker, by_memory(worker, "fail", b'{"size":2000}'))
    assert (frame.kind, frame.flags) == (frames.ERROR, 0)
    assert len(frame.payload) > AT_LEAST


def test_p113_a_batch_and_a_program_in_memory(worker: Worker) -> None:
    worker.send(frames.PROGRAM, b'{"value":"fixed"}', b"hash")
    payload = json.dumps({"inputs": [{"value": "x" * AT_LEAST}, {}]}).encode()
    os.pwrite(worker.memory_fd, payload, 0)
    flags = frames.FLAG_MEMORY | frames.FLAG_BATCH | frames.FLAG_PROGRAM
    id = worker.send(frames.REQUEST, reference(len(payload)), b"echo\0hash", flags=flags)
    assert read(worker, answer(worker, id)).result == {"outputs": [{"result": "x" * AT_LEAST}, {"result": "fixed"}]}


@pytest.mark.parametrize(
    ("kind", "payload", "says"),
    [
        (frames.REQUEST, reference(AREA + 1), "payload of 1048577 bytes in memory, at most 1048576"),
        (frames.REQUEST, b"\xff" * 4, "payload of 4294967295 bytes in memory"),
        (frames.REQUEST, b"", "a reference of 0 bytes to memory"),
        (frames.REQUEST, b"{}", "a reference of 2 bytes"),
        (frames.PING, reference(0), "flags 0x10 in a frame of kind 3"),
        (frames.PROGRAM, reference(2), "flags 0x10 in a frame of kind 12"),
    ],
)
def test_p113_a_reference_that_is_none_ends_the_worker(worker: Worker, kind: int, payload: bytes, says: str) -> None:
    worker.send(kind, payload, b"echo", flags=frames.FLAG_MEMORY)
    assert worker.exit_code() == 4
    assert says in worker.stderr()


def test_p113_memory_where_there_is_none_ends_the_worker(serve: Serve) -> None:
    worker = serve(MODULE)
    worker.send(frames.REQUEST, reference(0), b"echo", flags=frames.FLAG_MEMORY)
    assert worker.exit_code() == 4
    assert "flags 0x10, which this version doesn't know" in worker.stderr()


def test_p113_children_have_neither_map_nor_file(worker: Worker) -> None:
    assert worker.call("look").result == [1, 1]
    assert worker.call("look_in_child").result == [0, 0]
    assert worker.call("look").result == [1, 1]


@pytest.mark.parametrize("size", [0, 4 * AREA])
def test_p113_nobody_can_resize_it(worker: Worker, size: int) -> None:
    assert worker.call("resize", size=size).result == 1  # EPERM
    assert os.fstat(worker.memory_fd).st_size == AREA


def test_p113_a_python_without_mmap_says_so(start: Serve, tmp_path: Path) -> None:
    without = tmp_path / "without"
    without.mkdir()
    (without / "sitecustomize.py").write_text("import sys; sys.modules['mmap'] = None")
    worker = start(MODULE, env={"PYTHONPATH": str(without)}, memory=AREA)
    assert "memory" not in worker.init("user_module", memory=AT_LEAST).result
    assert worker.call("echo", value="x" * 70_000).result == "x" * 70_000
    assert worker.call("look").result == [0, 0]


def test_init_must_have_a_size_for_memory(start: Serve) -> None:
    sizes: List[Any] = ["1", -1]
    for size in sizes:
        refused = start(MODULE, memory=AREA).init("user_module", memory=size)
        assert refused.type == "system_error/worker_boot_failed"
        assert "memory" in refused.message
