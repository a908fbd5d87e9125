"""The time that a handler has left."""

from __future__ import annotations

import time

from conftest import Serve

import poolworker
from poolworker import frames

REMAINING = """
import asyncio, threading, time
from poolworker import deadline

@command
def remaining(wait=0):
    time.sleep(wait)
    return deadline()

@command
async def remaining_async(wait=0):
    await asyncio.sleep(wait)
    return deadline()

@command
def remaining_in_a_thread():
    seen = []
    thread = threading.Thread(target=lambda: seen.append(deadline()))
    thread.start()
    thread.join()
    return seen[0]
"""


def test_p110_a_handler_sees_what_is_left_of_its_requests_time(serve: Serve) -> None:
    worker = serve(REMAINING)
    for command in (b"remaining", b"remaining_async", b"remaining_in_a_thread"):
        left = worker.reply(worker.send(frames.REQUEST, b"{}", command, budget=30_000_000)).result
        assert 20 < left <= 30, command
    for command in (b"remaining", b"remaining_async"):
        left = worker.reply(worker.send(frames.REQUEST, b'{"wait": 0.1}', command, budget=10_000_000)).result
        assert 5 < left <= 9.9, command


def test_p110_the_time_is_over_at_zero_and_no_request_inherits_it(serve: Serve) -> None:
    worker = serve(REMAINING)
    assert worker.reply(worker.send(frames.REQUEST, b'{"wait": 0.01}', b"remaining", budget=1_000)).result == 0
    assert worker.call("remaining").result is None, "a request without a budget"


def test_p110_outside_of_a_worker_there_is_no_limit() -> None:
    assert poolworker.deadline() is None
    begun = time.monotonic()
    poolworker.current.enter(b"", b"", 60_000_000)
    try:
        left = poolworker.deadline()
        assert left is not None
        assert 60 - (time.monotonic() - begun) - 1 < left <= 60
    finally:
        poolworker.current.enter(b"", b"", 0)
