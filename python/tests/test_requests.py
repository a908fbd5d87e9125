"""Requests: arguments in, results and errors out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import Serve
from harness import Reply, codec_names

from poolworker import codecs, frames


@pytest.fixture(autouse=True, params=codec_names())
def _each_codec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run all with each codec that is there: callers must not be able to tell."""
    monkeypatch.setenv(codecs.VARIABLE, request.param)


ECHO = """
@command
def echo(value): return value
"""


def nested(depth: int) -> bytes:
    return b'{"value":' + b"[" * depth + b"]" * depth + b"}"


BAD_PAYLOADS = {
    "P35 not JSON": (b'{"value": ', "the payload isn't JSON: Expecting value"),
    "P35 nothing": (b"", "the payload isn't JSON"),
    "P35 trailing data": (b'{"value": 1} {}', "Extra data"),
    "P40 not UTF-8": (b'{"value": "\xff"}', "the payload isn't UTF-8: invalid start byte at byte 11"),
    "P40 UTF-16": ('{"value": 1}'.encode("utf-16"), "the payload isn't UTF-8"),
    "P40 byte order mark": (b'\xef\xbb\xbf{"value": 1}', "the payload isn't JSON"),
    "P40 NaN": (b'{"value": [NaN]}', "NaN isn't JSON"),
    "P40 Infinity": (b'{"value": Infinity}', "Infinity isn't JSON"),
    "P40 minus Infinity": (b'{"value": -Infinity}', "-Infinity isn't JSON"),
    "P40 deep nesting": (nested(200_000), "nested deeper than Python's JSON decoder goes"),
    "an array": (b"[1]", "must be a JSON object of arguments, not an array"),
    "null": (b"null", "not null"),
    "a number": (b"1.5", "not a number"),
    "a string": (b'"value"', "not a string"),
    "a boolean": (b"true", "not a boolean"),
}


@pytest.mark.parametrize("case", BAD_PAYLOADS)
def test_p35_p40_bad_payload_is_named_and_the_worker_kept(serve: Serve, case: str) -> None:
    payload, message = BAD_PAYLOADS[case]
    worker = serve(ECHO)
    answer = worker.raw("echo", payload)
    assert answer.type == "request_error/invalid_payload"
    assert message in answer.message
    assert worker.call("echo", value="still here").result == "still here"


@pytest.mark.parametrize(
    "value",
    [2**53 + 1, -(2**63), 2**200, 0.1, 1e308, "", "é\u0000😀", [], {}, None, True, [[{"a": [None]}]], {"": 1}],
    ids=str,
)
def test_p40_p43_values_keep_their_value(serve: Serve, value: Any) -> None:
    assert serve(ECHO).call("echo", value=value).result == value


def test_p40_a_number_with_more_digits_than_python_reads(serve: Serve) -> None:
    worker = serve(ECHO)
    answer = worker.raw("echo", b'{"value": ' + b"9" * 10_000 + b"}")
    if answer.kind == frames.ERROR:  # Pythons that have the limit
        assert answer.type == "request_error/invalid_payload"
    else:
        assert answer.body == int("9" * 10_000)


BAD_RESULTS = {
    "P40 NaN": ("[float('nan')]", "ValueError: make: the result holds NaN or Infinity"),
    "P40 Infinity": ("{'a': float('inf')}", "NaN or Infinity"),
    "P40 lone surrogate": ("'\\ud800'", "lone surrogate"),
    "P40 too deep": ("deep()", "RecursionError: make: the result is nested deeper"),
    "circular": ("circular()", "ValueError: make: Circular reference"),
    "a complex number": (
        "1j",
        "TypeError: make: the result holds a builtins.complex, which isn't JSON; return dict, list",
    ),
    "an object of the user's": ("[Thing()]", "user_module.Thing at [0], which isn't JSON"),
    "deep inside": ("{'items': [1, {'price': Thing()}]}", "user_module.Thing at items[1].price, which isn't JSON"),
    "P40 NaN deep inside": ("{'items': [float('nan')]}", "NaN or Infinity at items[0]"),
    "a class": ("int", "builtins.type"),
    "a key that is no text": ("{(1, 2): 3}", "TypeError: make: keys must be str"),
    "a property that raises": ("Broken(1)", "ZeroDivisionError: make"),
}


@pytest.mark.parametrize("case", BAD_RESULTS)
def test_p40_result_that_is_no_json_is_a_python_error_that_says_so(serve: Serve, case: str) -> None:
    expression, message = BAD_RESULTS[case]
    worker = serve(
        ECHO
        + f"""
import dataclasses
class Thing: pass
@dataclasses.dataclass
class Broken:
    x: int
    def __getattribute__(self, name):
        return object.__getattribute__(self, name) if name != "x" else 1 / 0
def deep():
    value = []
    for _ in range(200_000): value = [value]
    return value
def circular():
    value = []
    value.append(value)
    return value
@command
def make(): return {expression}
"""
    )
    answer = worker.call("make")
    assert answer.type == "communication_error/python_error"
    assert message in answer.message
    assert worker.call("echo", value="still here").result == "still here"


def test_dataclasses_namedtuples_and_enums_become_json(serve: Serve) -> None:
    worker = serve("""
import dataclasses, enum, typing
@dataclasses.dataclass
class Word:
    text: str
    count: int = 1
    seen: typing.ClassVar[int] = 3
@dataclasses.dataclass(frozen=True)
class Page:
    words: typing.List[Word]
class Pair(typing.NamedTuple):
    a: int
    b: int
class Level(enum.IntEnum):
    HIGH = 2
@command
def page(): return Page([Word("a"), Word("b", 2)])
@command
def other(): return {"pair": Pair(1, 2), "level": Level.HIGH, 7: (True, None)}
""")
    assert worker.call("page").result == {"words": [{"text": "a", "count": 1}, {"text": "b", "count": 2}]}
    assert worker.call("other").result == {"pair": [1, 2], "level": 2, "7": [True, None]}


SUMMARIZE = "summarize(text: str, words: int = 50, *, style=None, key=...) -> str"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, f'argument "text" is missing; it is {SUMMARIZE}'),
        ({"text": "a", "wrods": 1}, f'summarize has no argument "wrods"; it is {SUMMARIZE}'),
        ({"text": "a", "self": 1}, f'summarize has no argument "self"; it is {SUMMARIZE}'),
        ({"text": "a", "k" * 10_000: 1}, f'summarize has no argument "{"k" * 99}…"; it is {SUMMARIZE}'),
    ],
    ids=["missing", "unexpected", "self", "a long name"],
)
def test_arguments_that_do_not_fit_are_named_with_the_signature(serve: Serve, arguments: Any, message: str) -> None:
    worker = serve("""
@command
def summarize(text: str, words: int = 50, *, style=None, key="sk-secret") -> str:
    return f"{text} {words} {style} {key}"
""")
    answer = worker.call("summarize", **arguments)
    assert (answer.type, answer.message) == ("request_error/invalid_payload", message)
    assert worker.call("summarize", text="a", style=1).result == "a 50 1 sk-secret"


def test_a_type_error_inside_the_handler_is_its_own(serve: Serve) -> None:
    worker = serve("@command\ndef f(x): return inner(1, 2)\ndef inner(): ...")
    answer = worker.call("f", x=1)
    assert answer.type == "communication_error/python_error"
    assert "inner() takes 0 positional arguments" in answer.message


def test_signatures_of_wrapped_functions_partials_objects_and_kwargs(serve: Serve) -> None:
    worker = serve("""
import functools
def logged(f):
    @functools.wraps(f)
    def wrapper(*args, **kwargs): return f(*args, **kwargs)
    return wrapper
@command
@logged
def wrapped(a): return a
command(name="partial")(functools.partial(pow, exp=2))
class Model:
    def __call__(self, a, b=2): return a + b
command(name="model")(Model())
@command
def anything(**values): return values
""")
    assert worker.call("wrapped", a=1).result == 1
    assert worker.call("wrapped", b=1).message == 'wrapped has no argument "b"; it is wrapped(a)'
    assert worker.call("partial", base=3).result == 9
    assert worker.call("model", a=1).result == 3
    assert worker.call("anything", x=1, name="y").result == {"x": 1, "name": "y"}


def test_decorated_functions_stay_functions(serve: Serve) -> None:
    worker = serve(
        "@command\ndef a(): return 1\n@command(name='bee')\ndef b(): return a() + 1\n@command\ndef c(): return b() + 1"
    )
    assert worker.call("c").result == 3


@pytest.mark.parametrize(("name", "shown"), [("nope", "nope"), ("", "(none given)"), ("x" * 5000, "x" * 200)])
def test_p39_p47_unknown_command(serve: Serve, name: str, shown: str) -> None:
    worker = serve(ECHO)
    answer = worker.raw(name, b"{}")
    assert (answer.type, answer.message) == ("request_error/unknown_command", f"Unknown command: {shown}")
    assert answer.body["context"] == {"commands": ["echo"]}
    assert worker.call("echo", value=1).result == 1


def test_p47_command_name_that_is_no_text(serve: Serve) -> None:
    worker = serve(ECHO)
    assert worker.reply(worker.send(frames.REQUEST, b"{}", b"\xff\xfe")).message == "Unknown command: \\xff\\xfe"


def test_p39_request_without_an_id_gets_an_error(serve: Serve) -> None:
    worker = serve(ECHO)
    worker.channel.write(frames.encode(frames.REQUEST, 7, 0, b'{"value": 1}', b"echo"))
    answer = worker.reply(0)
    assert (answer.type, answer.message) == (
        "request_error/invalid_payload",
        "the request has no id; give it one that isn't 0",
    )


@pytest.mark.parametrize("payload", [b"", b"null", b"[]"])
def test_p36_request_without_arguments_is_named(serve: Serve, payload: bytes) -> None:
    worker = serve(ECHO)
    assert worker.raw("echo", payload).type == "request_error/invalid_payload"
    assert worker.call("echo", value=1).result == 1


def test_p44_exception_is_a_python_error_and_the_worker_is_kept(serve: Serve) -> None:
    worker = serve("""
import json
class Own(Exception): pass
class Mute(Exception):
    def __str__(self): raise RuntimeError
@command
def fail(how):
    secret_value = "sk-" + "1234"
    if how == "own": raise Own("why")
    if how == "mute": raise Mute
    if how == "empty": raise KeyError
    if how == "long": raise ValueError("x" * 100_000)
    if how == "surrogate": raise ValueError("\\ud800")
    if how == "chained":
        try: json.loads("{")
        except ValueError as e: raise Own("outer") from e
    if how == "deep": return fail(how)
@command
def pid():
    import os
    return os.getpid()
""")
    pid = worker.call("pid").result
    cases = {
        "own": ("user_module.Own: why", "user_module.Own"),
        "mute": ("user_module.Mute: (its text can't be shown: __str__ raised)", "user_module.Mute"),
        "empty": ("KeyError", "KeyError"),
        "surrogate": ("ValueError: \\ud800", "ValueError"),
        "chained": ("user_module.Own: outer", "user_module.Own"),
    }
    for how, (message, exception) in cases.items():
        answer = worker.call("fail", how=how)
        assert (answer.type, answer.message) == ("communication_error/python_error", message)
        assert answer.body["context"]["exception"] == exception
        _is_sound_traceback(answer)
    long = worker.call("fail", how="long")
    assert len(long.message) < 2100
    assert long.message.endswith("… (cut)")
    _is_sound_traceback(long)
    deep = worker.call("fail", how="deep")
    assert deep.message.startswith("RecursionError: maximum recursion depth exceeded")
    _is_sound_traceback(deep)
    chained = worker.call("fail", how="chained").body["context"]["traceback"]
    assert (
        chained.index("in fail")
        < chained.index("caused by json.decoder.JSONDecodeError")
        < chained.index("in raw_decode")
    )
    assert worker.call("pid").result == pid


def _is_sound_traceback(answer: Reply) -> None:
    """User code only, code lines and no values (P54), bounded."""
    text = answer.body["context"]["traceback"]
    assert len(text.encode()) <= 4096
    assert "sk-1234" not in text
    assert "poolworker/" not in text


def test_p44_traceback_shows_the_users_own_frame_first(serve: Serve) -> None:
    worker = serve("""
import json
@command
def parse(): return inner()
def inner(): return json.loads("{")
""")
    lines = worker.call("parse").body["context"]["traceback"].splitlines()
    frames_shown = [line.rpartition("in ")[2] for line in lines if line.startswith("  File")]
    assert frames_shown == ["inner", "parse", "raw_decode", "decode", "loads"]
    assert lines[2] == '    def inner(): return json.loads("{")'


def test_p33_result_over_the_limit_is_an_error_and_the_worker_kept(serve: Serve) -> None:
    worker = serve(ECHO + "@command\ndef make(size): return 'x' * size", maxPayload=1000)
    answer = worker.call("make", size=999)
    assert answer.type == "communication_error/frame_too_large"
    assert answer.message.startswith("the result of make has 1001 bytes, at most 1000 are allowed")
    assert answer.body["context"] == {"size": 1001, "limit": 1000}
    assert worker.call("make", size=998).result == "x" * 998


def test_async_handlers_share_one_loop(serve: Serve) -> None:
    worker = serve("""
import asyncio
loops = set()
@command
async def add(a, b=1):
    loops.add(asyncio.get_running_loop())
    await asyncio.sleep(0)
    return [a + b, len(loops)]
@command
def sync_that_returns_a_coroutine(a): return add(a)
@command
async def fail(): raise ValueError("async")
@command
async def cancelled(): raise asyncio.CancelledError("mine")
@command
async def leave():
    asyncio.get_running_loop().create_task(long())
    await asyncio.sleep(0)
async def long():
    try: await asyncio.sleep(600)
    finally: print("cancelled at the end")
""")
    for _ in range(3):
        assert worker.call("add", a=1).result == [2, 1]
    assert worker.call("sync_that_returns_a_coroutine", a=1).result == [2, 1]
    assert worker.call("fail").message == "ValueError: async"
    assert worker.call("cancelled").type == "communication_error/python_error"
    assert worker.call("leave").result is None
    assert worker.call("add", a=1).result == [2, 1]
    worker.close_input()
    assert worker.exit_code() == 0
    assert worker.stderr() == "cancelled at the end\n"


def test_asyncio_is_loaded_only_for_async_handlers(serve: Serve) -> None:
    worker = serve("import sys\n@command\ndef loaded(): return 'asyncio' in sys.modules\n@command\nasync def a(): ...")
    assert worker.call("loaded").result is False
    worker.call("a")
    assert worker.call("loaded").result is True


def test_p48_failures_leave_the_others_right(serve: Serve) -> None:
    worker = serve("@command\ndef half(n):\n    if n % 2: raise ValueError(n)\n    return n")
    for n in range(200):
        answer = worker.call("half", n=n)
        assert answer.body == n if n % 2 == 0 else answer.message == f"ValueError: {n}"


def test_p99_memory_and_descriptors_stay_flat(serve: Serve) -> None:
    worker = serve("""
import os
@command
async def work(value):
    if value["n"] % 3 == 0: raise ValueError(value)
    return value
@command
def size():
    with open("/proc/self/statm") as f: return [int(f.read().split()[1]) * 4096, len(os.listdir("/proc/self/fd"))]
""")
    big = json.dumps({"value": {"n": 1, "text": "x" * 100_000}}).encode()

    def some(count: int) -> None:
        for n in range(count):
            worker.call("work", value={"n": n})
        for _ in range(10):
            worker.raw("work", big)

    some(300)
    memory, fds = worker.call("size").result
    some(3_000)
    more_memory, more_fds = worker.call("size").result
    assert more_fds == fds
    assert more_memory - memory < 2 << 20
