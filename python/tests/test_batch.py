"""One request with many calls of a command."""

from __future__ import annotations

import json
import os
import signal
from typing import Any, List

import pytest
from conftest import Serve
from harness import Reply, Worker

from poolworker import frames

HANDLERS = """
import os, time
import poolworker

calls = []

@command
def divide(a, b=2, seen=None):
    calls.append(a)
    if seen is not None:
        seen.append(a)
    return [a / b, seen]

@command
async def divide_async(a, b=2, seen=None): return divide(a, b, seen)

@command
def made(): return calls

@command
def blame(who):
    if who == "large": return "x" * (2 << 20)
    if who != "nobody":
        raise {"caller": poolworker.CallerError, "upstream": poolworker.UpstreamError, "bug": ValueError}[who]("theirs")

@command
def big(n): return "x" * n

@command
def slow(ms):
    print("begun", flush=True)
    time.sleep(ms / 1000)
"""


@pytest.fixture(params=[1, 3], ids=["one at a time", "concurrency"])
def worker(serve: Serve, request: pytest.FixtureRequest) -> Worker:
    return serve(HANDLERS, concurrency=request.param)


def run(worker: Worker, command: str, inputs: Any, hash: str = "") -> Reply:
    payload = json.dumps({"inputs": inputs}).encode()
    meta = f"{command}\0{hash}" if hash else command
    flags = frames.FLAG_BATCH | (frames.FLAG_PROGRAM if hash else 0)
    return worker.reply(worker.send(frames.REQUEST, payload, meta.encode(), flags=flags))


def outputs(reply: Reply) -> List[Any]:
    assert sorted(reply.result) == ["outputs"]
    found: List[Any] = reply.result["outputs"]
    assert all(len(output) == 1 for output in found)
    return found


@pytest.mark.parametrize("command", ["divide", "divide_async"])
def test_p112_outputs_come_in_the_order_of_the_inputs(worker: Worker, command: str) -> None:
    found = outputs(run(worker, command, [{"a": a} for a in range(100)]))
    assert [output["result"][0] for output in found] == [a / 2 for a in range(100)]
    assert worker.call("made").result == list(range(100)), "one after the other"
    assert outputs(run(worker, command, [])) == []


def test_p112_one_failure_fails_one_input(worker: Worker) -> None:
    found = outputs(
        run(worker, "divide", [{"a": 1}, {"a": 1, "b": 0}, {"x": 1}, 7, {"a": 4}, {"a": 1e308, "b": 1e-10}])
    )
    assert [sorted(output)[0] for output in found] == ["result", "error", "error", "error", "result", "error"]
    assert found[4]["result"][0] == 2
    kinds = [f"{output['error']['category']}/{output['error']['type']}" for output in found if "error" in output]
    assert kinds == [
        "communication_error/python_error",
        "request_error/invalid_payload",
        "request_error/invalid_payload",
        "communication_error/python_error",
    ]
    raised = found[1]["error"]
    assert sorted(raised) == ["category", "context", "message", "type"]
    assert raised["message"].startswith("ZeroDivisionError")
    assert "in divide" in raised["context"]["traceback"]
    theirs = outputs(run(worker, "blame", [{"who": "caller"}, {"who": "upstream"}]))
    assert [output["error"]["type"] for output in theirs] == ["caller_error", "upstream_error"]
    assert worker.call("big", n=1).result == "x"


@pytest.mark.parametrize(
    ("inputs", "counted"),
    [
        ([], b""),
        ([{"who": "nobody"}], b""),
        ([{"who": "nobody"}, {"x": 1}], b"caller_error"),
        ([{"who": "caller"}, {"who": "nobody"}], b"caller_error"),
        ([{"who": "upstream"}, {"who": "caller"}], b"upstream_error"),
        ([{"who": "upstream"}, {"who": "bug"}, {"who": "caller"}], b"python_error"),
        ([{"who": "large"}], b"python_error"),
    ],
)
def test_p111_p112_a_batch_counts_as_its_worst_output(worker: Worker, inputs: List[Any], counted: bytes) -> None:
    worker.send(frames.REQUEST, json.dumps({"inputs": inputs}).encode(), b"blame", flags=frames.FLAG_BATCH)
    answer = worker.channel.read()
    assert answer is not None
    assert (answer.kind, answer.meta) == (frames.RESULT, counted)


@pytest.mark.parametrize("payload", [b"[]", b"{}", b'{"inputs": {}}', b'{"inputs": [], "more": 1}', b'{"inputs": ['])
def test_p112_what_is_no_batch_fails_whole(worker: Worker, payload: bytes) -> None:
    answer = worker.reply(worker.send(frames.REQUEST, payload, b"divide", flags=frames.FLAG_BATCH))
    assert answer.type == "request_error/invalid_payload"
    assert run(worker, "nothing", []).type == "request_error/unknown_command"


def test_p112_a_result_over_the_limit_is_its_inputs_failure_and_all_together_the_batchs(worker: Worker) -> None:
    limit = 1 << 20
    found = outputs(run(worker, "big", [{"n": limit}, {"n": 1}]))
    assert found[0]["error"]["type"] == "frame_too_large"
    assert found[1]["result"] == "x"
    assert run(worker, "big", [{"n": limit // 2}] * 3).type == "communication_error/frame_too_large"


def test_p112_a_programs_inputs_are_each_inputs_own(worker: Worker) -> None:
    worker.channel.write(frames.encode(frames.PROGRAM, 7, 0, b'{"b": 4, "seen": []}', b"h1"))
    found = outputs(run(worker, "divide", [{"a": 8}, {"a": 8, "b": 8}], "h1"))
    assert [output["result"] for output in found] == [[2, [8]], [1, [8]]]


def test_p112_an_interrupt_ends_the_batch(serve: Serve) -> None:
    worker = serve(HANDLERS)
    payload = json.dumps({"inputs": [{"ms": 20_000}] * 3}).encode()
    id = worker.send(frames.REQUEST, payload, b"slow", flags=frames.FLAG_BATCH)
    worker.stderr_until("begun")
    os.kill(worker.process.pid, signal.SIGINT)
    assert worker.reply(id).message.startswith("KeyboardInterrupt")
    assert worker.stderr().count("begun") == 1
    assert outputs(run(worker, "divide", [{"a": 2}]))[0]["result"][0] == 1, "the next batch isn't ended"


FOREVER = """
import asyncio

@command
async def forever():
    print("begun", flush=True)
    await asyncio.sleep(60)
"""


def test_p112_a_cancel_ends_the_batch(serve: Serve) -> None:
    worker = serve(FOREVER, concurrency=2)
    id = worker.send(frames.REQUEST, b'{"inputs": [{}, {}]}', b"forever", flags=frames.FLAG_BATCH)
    worker.stderr_until("begun")
    worker.channel.write(frames.encode(frames.CANCEL, 7, id))
    assert worker.reply(id).type == "request_error/cancelled"
    assert worker.stderr().count("begun") == 1


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_batch_ends_where_its_outputs_are_too_large(serve: Serve, concurrency: int) -> None:
    worker = serve(
        """
        calls = 0
        @command
        def big(n):
            global calls
            calls += 1
            return "x" * n
        @command
        def count(): return calls
        """,
        concurrency=concurrency,
        maxPayload=1 << 16,
    )
    assert run(worker, "big", [{"n": 1 << 15}] * 50).type == "communication_error/frame_too_large"
    assert worker.call("count").result == 2
