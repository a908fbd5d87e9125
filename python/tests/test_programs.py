"""Programs: fixed arguments that come once, and errors that a handler blames on others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import Serve
from harness import Worker, codec_names

from poolworker import Context, codecs, context, frames
from poolworker.worker import EXIT_PROTOCOL


@pytest.fixture(autouse=True, params=codec_names())
def _each_codec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run all with each codec that is there: callers must not be able to tell."""
    monkeypatch.setenv(codecs.VARIABLE, request.param)


SHOW = """
@command
def show(**arguments): return arguments

@command
def spoil(items, options, extra=None):
    before = [list(items), dict(options)]
    items.append("mine")
    options["mine"] = True
    return before
"""


def keep(worker: Worker, hash: str, **inputs: Any) -> None:
    worker.send(frames.PROGRAM, json.dumps(inputs).encode(), hash.encode())


def test_a_program_comes_once_and_calls_merge_over_it(serve: Serve) -> None:
    worker = serve(SHOW)
    keep(worker, "h1", words=5, style={"tone": "dry", "lang": "en"}, text=None)
    assert worker.execute("show", "h1", text="a").result == {
        "words": 5,
        "style": {"tone": "dry", "lang": "en"},
        "text": "a",
    }
    replaced = worker.execute("show", "h1", style={"tone": "warm"}, words=None).result
    assert replaced == {"words": None, "style": {"tone": "warm"}, "text": None}, "members are replaced whole"
    assert worker.execute("show", "h1").result == {
        "words": 5,
        "style": {"tone": "dry", "lang": "en"},
        "text": None,
    }
    assert worker.call("show", text="b").result == {"text": "b"}, "a plain command has nothing of the program"


def test_what_a_handler_does_to_its_arguments_is_gone_with_the_next_call(serve: Serve) -> None:
    worker = serve(SHOW)
    keep(worker, "h1", items=["a", {"deep": []}], options={"b": [1]})
    for _ in range(3):
        assert worker.execute("spoil", "h1").result == [["a", {"deep": []}], {"b": [1]}]


@pytest.mark.parametrize(
    "value", [2**53 + 1, -(2**200), 0.1, 1e308, "é\u0000😀\ud800", [], {}, None, True, {"": [[1]]}], ids=ascii
)
def test_p40_fixed_inputs_keep_their_value(serve: Serve, value: Any) -> None:
    worker = serve(SHOW.replace("return arguments", "return ascii(arguments['value'])"))
    keep(worker, "h1", value=value)
    assert worker.execute("show", "h1").result == ascii(value)


def test_several_programs_are_told_apart_and_forgotten(serve: Serve) -> None:
    worker = serve(SHOW)
    for n in range(3):
        keep(worker, f"h{n}", n=n)
    assert [worker.execute("show", f"h{n}").result for n in range(3)] == [{"n": 0}, {"n": 1}, {"n": 2}]
    worker.send(frames.FORGET, meta=b"h1")
    worker.send(frames.FORGET, meta=b"never there")
    assert worker.execute("show", "h2").result == {"n": 2}
    keep(worker, "h1", n="again")
    assert worker.execute("show", "h1").result == {"n": "again"}


def test_a_request_of_a_program_that_is_not_held_is_out_of_step(serve: Serve) -> None:
    worker = serve(SHOW)
    worker.send(frames.REQUEST, b"{}", b"show\0h1", flags=frames.FLAG_PROGRAM)
    assert worker.exit_code() == EXIT_PROTOCOL
    assert "which isn't held" in worker.stderr()


def test_flags_that_a_kind_does_not_have_are_out_of_step(serve: Serve) -> None:
    worker = serve(SHOW)
    worker.send(frames.PING, flags=frames.FLAG_PROGRAM)
    assert worker.exit_code() == EXIT_PROTOCOL


BAD_BODIES = {
    "P35 not JSON": b"{",
    "an array": b"[1]",
    "P40 NaN": b'{"a": NaN}',
    "P40 deep nesting": b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "P40 deeper than it can be copied": b'{"a":' + b"[" * 2_500 + b"]" * 2_500 + b"}",
}


@pytest.mark.parametrize("case", BAD_BODIES)
def test_p35_p40_a_program_that_cannot_be_decoded_fails_its_calls_alone(serve: Serve, case: str) -> None:
    worker = serve(SHOW)
    worker.send(frames.PROGRAM, BAD_BODIES[case], b"h1")
    for _ in range(2):
        answer = worker.execute("show", "h1")
        assert answer.type == "request_error/invalid_payload"
        assert answer.message.startswith("the program's inputs")
    assert worker.call("show", text="b").result == {"text": "b"}


def test_an_argument_that_the_command_does_not_have_is_named(serve: Serve) -> None:
    worker = serve(SHOW)
    keep(worker, "h1", items=[], option={})
    answer = worker.execute("spoil", "h1")
    assert (answer.type, answer.body["context"]) == ("request_error/invalid_payload", {"argument": "option"})


ASKS = """
from poolworker import context

@command
def ask(**arguments): return context()._asdict()

@command
async def ask_later(): return list(context())
"""


def test_a_handler_is_told_session_and_program(serve: Serve) -> None:
    worker = serve(ASKS)
    keep(worker, "h1", words=5)
    flags = frames.FLAG_PROGRAM | frames.FLAG_CONTEXT
    request = worker.send(frames.REQUEST, b"{}", "ask\0h1\0gespräch-17\0p1".encode(), flags=flags)
    assert worker.reply(request).result == {"session": "gespräch-17", "program": "p1"}
    assert worker.call("ask").result == {"session": "anonymous", "program": ""}, "nothing is left of the call before"
    request = worker.send(frames.REQUEST, b"{}", b"ask_later\0s1\0", flags=frames.FLAG_CONTEXT)
    assert worker.reply(request).result == ["s1", ""]
    request = worker.send(frames.REQUEST, b"{}", b"ask\0h1\0\0p1", flags=flags)
    assert worker.reply(request).result == {"session": "anonymous", "program": "p1"}


def test_outside_of_a_worker_there_is_no_request() -> None:
    assert context() == Context(session="anonymous", program="")


BLAMED = """
import os, poolworker
class Refused(poolworker.CallerError): pass
class Busy(poolworker.UpstreamError): pass
class Silent(poolworker.CallerError):
    def __str__(self): raise KeyError("no text")
@command
def pid(): return os.getpid()
@command
def blame(kind, text=""):
    raise {"caller": poolworker.CallerError, "refused": Refused, "upstream": poolworker.UpstreamError, "busy": Busy,
           "silent": Silent}[kind](*[text] if text else [])
@command
async def blame_later(kind): blame(kind, "later")
@command
def blame_wrapped():
    try: raise ConnectionResetError("the socket")
    except OSError as error: raise Busy("the provider hung up") from error
"""


@pytest.mark.parametrize(
    ("kind", "text", "type", "message", "exception"),
    [
        ("caller", "too many words", "request_error/caller_error", "too many words", "poolworker.errors.CallerError"),
        ("refused", "not today", "request_error/caller_error", "not today", "user_module.Refused"),
        ("caller", "", "request_error/caller_error", "poolworker.errors.CallerError", "poolworker.errors.CallerError"),
        ("upstream", "503", "communication_error/upstream_error", "503", "poolworker.errors.UpstreamError"),
        ("busy", "x" * 5000, "communication_error/upstream_error", "x" * 100, "user_module.Busy"),
        ("silent", "", "request_error/caller_error", "(its text can't be shown", "user_module.Silent"),
    ],
)
def test_p111_errors_of_others_are_told_apart(
    serve: Serve, kind: str, text: str, type: str, message: str, exception: str
) -> None:
    worker = serve(BLAMED)
    pid = worker.call("pid").result
    answer = worker.call("blame", kind=kind, text=text)
    assert answer.type == type
    assert answer.message.startswith(message)
    assert len(answer.message) <= 2048
    assert answer.body["context"]["exception"] == exception
    assert worker.call("pid").result == pid, "the worker is kept"


def test_p111_async_handlers_and_causes(serve: Serve) -> None:
    worker = serve(BLAMED)
    assert worker.call("blame_later", kind="busy").type == "communication_error/upstream_error"
    answer = worker.call("blame_wrapped")
    assert answer.message == "the provider hung up"
    assert "caused by ConnectionResetError: the socket" in answer.body["context"]["traceback"]
