"""Several requests at once in one worker."""

from __future__ import annotations

import json
import os
import signal
from typing import Any, Dict, Sequence

import pytest
from conftest import Serve
from harness import GENERATION, Reply, Worker

from poolworker import frames

HANDLERS = """
import asyncio, contextvars, os, sys, threading, time
import poolworker

var = contextvars.ContextVar("var", default="default")
var.set("from the import")
inside = 0
released = None
barrier = threading.Barrier(3)

@poolworker.worker_start
async def start():
    global released
    released = asyncio.Event()

@command
async def meet(n):
    '''Return once n requests are inside.'''
    global inside
    inside += 1
    while inside < n:
        await asyncio.sleep(0.001)
    return [poolworker.context().session, poolworker.deadline()]

@command
async def held(path=None, stubborn=False):
    print("held", flush=True)
    try:
        await released.wait()
    except asyncio.CancelledError:
        if not stubborn:
            raise
        return "stubborn"
    finally:
        print("left", flush=True)
    return "released"

@command
async def release():
    released.set()

@command
def meet_in_threads():
    barrier.wait(20)
    return [threading.current_thread() is not threading.main_thread(), poolworker.context().session]

@command
def context_of_thread(value):
    before = var.get()
    var.set(value)
    barrier.wait(20)
    return [before, var.get()]

@command
def hold_thread(path):
    print("held", flush=True)
    while not os.path.exists(path):
        time.sleep(0.005)
    return poolworker.deadline()

@command
def fail(kind):
    raise {"stop": StopIteration("enough"), "caller": poolworker.CallerError("no"), "value": ValueError("bad")}[kind]

@command
async def fail_async(kind): fail(kind)

@command
async def cancel_itself(): raise asyncio.CancelledError("its own")

@command
def leave(code): sys.exit(code)

@command
async def leave_async(code): sys.exit(code)

@command
def echo(value): return value

def wrapped(): return asyncio.sleep(0, "awaited")
command(name="wrapped")(wrapped)
"""


@pytest.fixture
def serve_many(serve: Serve) -> Serve:
    def serve_concurrently(concurrency: int = 4, source: str = HANDLERS, **options: Any) -> Worker:
        return serve(source, concurrency=concurrency, **options)

    return serve_concurrently


def begin(worker: Worker, command: str, **arguments: Any) -> int:
    return worker.send(frames.REQUEST, json.dumps(arguments).encode(), command.encode())


def cancel(worker: Worker, id: int) -> None:
    worker.channel.write(frames.encode(frames.CANCEL, GENERATION, id))


def replies(worker: Worker, ids: Sequence[int]) -> Dict[int, Reply]:
    """The next answers, in whatever order; they must be these ids'."""
    found: Dict[int, Reply] = {}
    for _ in ids:
        frame = worker.read()
        assert frame is not None, f"the worker ended; its stderr: {worker.stderr()}"
        assert (frame.generation, frame.meta) == (GENERATION, b"")
        found[frame.id] = Reply(frame.kind, json.loads(frame.payload))
    assert sorted(found) == sorted(ids)
    return found


def test_p107_requests_run_at_the_same_time_each_with_its_own_context(serve_many: Serve) -> None:
    worker = serve_many(8)
    ids = {}
    for i in range(8):
        meta = f"meet\0s{i}\0".encode()
        budget = (100 + i) * 1_000_000
        id = worker.send(frames.REQUEST, b'{"n": 8}', meta, flags=frames.FLAG_CONTEXT, budget=budget)
        ids[id] = i
    for id, reply in replies(worker, list(ids)).items():
        session, left = reply.result
        assert session == f"s{ids[id]}"
        assert 100 + ids[id] - 20 < left <= 100 + ids[id]  # P110


def test_p107_cancelling_one_disturbs_no_other(serve_many: Serve) -> None:
    worker = serve_many()
    first, second, third = (begin(worker, "held") for _ in range(3))
    worker.stderr_until("held", 3)
    cancel(worker, second)
    answer = worker.reply(second)
    assert answer.type == "request_error/cancelled"
    assert worker.stderr_until("left").count("left") == 1, "its finally block ran, and no other's"
    release = begin(worker, "release")
    results = replies(worker, [release, first, third])
    assert [results[id].result for id in (first, third)] == ["released"] * 2


def test_p107_every_request_is_answered_once_whatever_a_cancel_meets(serve_many: Serve) -> None:
    worker = serve_many()
    for id in (0, 77):
        cancel(worker, id)  # nothing is known of it
    answered = worker.call("echo", value=1)
    cancel(worker, worker.next_id)
    assert answered.result == 1
    # request and cancel in one write: it is cancelled before its first step
    worker.next_id += 1
    both = [
        frames.encode(frames.REQUEST, GENERATION, worker.next_id, b"{}", b"held"),
        frames.encode(frames.CANCEL, GENERATION, worker.next_id),
        frames.encode(frames.CANCEL, GENERATION, worker.next_id),
    ]
    os.write(worker.write_fd, b"".join(both))
    assert worker.reply(worker.next_id).type == "request_error/cancelled"
    stubborn = begin(worker, "held", stubborn=True)
    worker.stderr_until("held")
    cancel(worker, stubborn)
    assert worker.reply(stubborn).result == "stubborn"
    assert worker.call("echo", value=2).result == 2


def test_p107_a_program_may_be_forgotten_right_after_its_request(serve_many: Serve) -> None:
    worker = serve_many()
    worker.next_id += 1
    together = [
        frames.encode(frames.PROGRAM, GENERATION, 0, b'{"value": "fixed"}', b"h1"),
        frames.encode(frames.REQUEST, GENERATION, worker.next_id, b"{}", b"echo\0h1", flags=frames.FLAG_PROGRAM),
        frames.encode(frames.FORGET, GENERATION, 0, b"", b"h1"),
    ]
    os.write(worker.write_fd, b"".join(together))
    assert worker.reply(worker.next_id).result == "fixed"
    worker.send(frames.REQUEST, b"{}", b"echo\0h1", flags=frames.FLAG_PROGRAM)
    assert worker.exit_code() == 4
    assert "isn't held" in worker.stderr()


@pytest.mark.parametrize("fault", ["one too many", "an id twice", "another generation", "flags"])
def test_p107_a_supervisor_that_breaks_the_protocol_ends_the_worker(serve_many: Serve, fault: str) -> None:
    worker = serve_many(2)
    first = begin(worker, "held")
    if fault == "one too many":
        begin(worker, "held")
        begin(worker, "echo", value=1)
    elif fault == "an id twice":
        worker.channel.write(frames.encode(frames.REQUEST, GENERATION, first, b"{}", b"held"))
    elif fault == "another generation":
        worker.channel.write(frames.encode(frames.CANCEL, GENERATION + 1, first))
    else:
        worker.channel.write(frames.encode(frames.CANCEL, GENERATION, first, flags=frames.FLAG_CONTEXT))
    assert worker.exit_code() == 4


def test_p107_a_slot_is_free_as_soon_as_its_answer_is_there(serve_many: Serve) -> None:
    worker = serve_many(2)
    begin(worker, "held")
    for i in range(200):
        assert worker.call("echo", value=i).result == i


def test_p107_large_frames_cross_each_other(serve_many: Serve) -> None:
    worker = serve_many(4, maxPayload=8 << 20)
    value = "x" * (2 << 20)
    ids = range(100, 104)
    pid = os.fork()  # another process writes, as the pipes hold less than the payloads
    if pid == 0:
        for id in ids:
            payload = json.dumps({"value": f"{id}{value}"}).encode()
            worker.channel.write(frames.encode(frames.REQUEST, GENERATION, id, payload, b"echo"))
        os._exit(0)
    found = replies(worker, ids)
    assert os.waitpid(pid, 0)[1] == 0
    assert all(reply.result == f"{id}{value}" for id, reply in found.items())


def test_p107_shutdown_lets_what_runs_end(serve_many: Serve) -> None:
    worker = serve_many()
    running = [begin(worker, "meet", n=3) for _ in range(2)]
    running.append(begin(worker, "meet", n=3))
    worker.send(frames.SHUTDOWN)
    worker.close_input()
    replies(worker, running)
    assert worker.read() is None
    assert worker.exit_code() == 0


def test_p107_sigterm_ends_all_and_answers_none(serve_many: Serve) -> None:
    worker = serve_many()
    for _ in range(3):
        begin(worker, "held")
    worker.stderr_until("held", 3)
    os.kill(worker.process.pid, signal.SIGINT)  # is for workers with one request at a time
    assert worker.call("echo", value=1).result == 1
    os.kill(worker.process.pid, signal.SIGTERM)
    assert worker.read() is None
    assert worker.exit_code() == 143
    assert worker.stderr().count("left") == 3, "finally blocks ran"


def test_p108_sync_handlers_run_in_threads_at_the_same_time(serve_many: Serve) -> None:
    worker = serve_many(3)
    ids = [
        worker.send(frames.REQUEST, b"{}", f"meet_in_threads\0s{i}\0".encode(), flags=frames.FLAG_CONTEXT)
        for i in range(3)
    ]
    results = replies(worker, ids)
    assert [results[id].result for id in ids] == [[True, f"s{i}"] for i in range(3)]


def test_p108_each_thread_has_a_copy_of_the_context(serve_many: Serve) -> None:
    worker = serve_many(3)
    for _ in range(2):  # also when threads are used again
        ids = [begin(worker, "context_of_thread", value=i) for i in range(3)]
        results = replies(worker, ids)
        assert [results[id].result for id in ids] == [["from the import", i] for i in range(3)]


def test_p108_a_cancelled_thread_is_answered_when_it_has_ended(serve_many: Serve, tmp_path: Any) -> None:
    worker = serve_many(2)
    path = tmp_path / "go"
    held = begin(worker, "hold_thread", path=str(path))
    worker.stderr_until("held")
    cancel(worker, held)
    for i in range(20):
        assert worker.call("echo", value=i).result == i, "no answer for the thread comes between"
    path.touch()
    assert worker.reply(held).result is None


@pytest.mark.parametrize("command", ["fail", "fail_async"])
def test_p108_errors_are_the_same_in_threads_and_tasks(serve_many: Serve, command: str) -> None:
    worker = serve_many(2)
    assert worker.call(command, kind="caller").type == "request_error/caller_error"
    answer = worker.call(command, kind="value")
    assert answer.type == "communication_error/python_error"
    assert answer.message == "ValueError: bad"
    assert "in fail" in answer.body["context"]["traceback"]
    assert worker.call(command, kind="stop").type == "communication_error/python_error"
    assert worker.call("echo", other=1).type == "request_error/invalid_payload"
    assert worker.call("nothing").type == "request_error/unknown_command"
    assert worker.call("cancel_itself").type == "communication_error/python_error"
    assert worker.call("wrapped").result == "awaited"
    assert worker.call("echo", value="kept").result == "kept"


@pytest.mark.parametrize("command", ["leave", "leave_async"])
def test_p108_sys_exit_ends_the_worker_from_threads_and_tasks(serve_many: Serve, command: str) -> None:
    worker = serve_many()
    begin(worker, "held")
    begin(worker, command, code=7)
    assert worker.read() is None
    assert worker.exit_code() == 7
    assert "never retrieved" not in worker.stderr()


def test_p107_init_says_how_many(start: Serve) -> None:
    answer = start(HANDLERS).init("user_module", concurrency=4)
    assert answer.result["concurrency"] == 4
    assert "concurrency" not in start("@command\ndef f(): ...").init("user_module", concurrency=1).result
    refused = start(HANDLERS).init("user_module", concurrency=-1)
    assert refused.type == "system_error/worker_boot_failed"
    assert "below 1" in refused.message
