"""Codecs: whichever is there, values, errors and their texts are the standard library's."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import decimal
import enum
import json
import random
import uuid
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple

import pytest
from conftest import Serve
from harness import codec_names

from poolworker import codec as chosen
from poolworker import codecs
from poolworker.errors import Failure

FAST = {name: codecs.load(name) for name in codec_names() if name != "json"}
needs_fast = pytest.mark.skipif(not FAST, reason="neither orjson nor msgspec is installed for this Python")


def outcome(function: Callable[[Any], Any], value: Any) -> str:
    """What came of it, to the last detail: the type of each number, the sign of zero, an error's text."""
    try:
        return f"returned {function(value)!r}"
    except Exception as error:  # noqa: BLE001 - whatever it is, it has to be the same
        return f"raised {type(error).__name__}: {error}"


DOCUMENTS: List[bytes] = [
    *(b"%d" % n for n in (0, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**40, -(10**40))),
    *(b'{"ids": [%d, %d], "a": 1}' % (10**18 + n, -(10**19) - n) for n in range(8)),
    *(b" " * n + b"-9999999999999999999" for n in range(6)),
    *(b" " * n + b"99999999999999999999" for n in range(6)),
    *(b"-0", b"-0.0", b"0e5", b"-0e0", b"1E5", b"0.1e-7", b"1e999", b"-1e999", b"1e-999", b"9007199254740993.0"),
    *(b"9" * 5000, b"-" + b"9" * 5000, b"9" * 400 + b".5", b"0." + b"3" * 400, b"123456789012345678901234567890e3"),
    *(b"NaN", b"[Infinity]", b"-Infinity", b"nan", b"01", b"1.", b".5", b"+1", b"-", b"0x10", b"1_000"),
    *(
        b"",
        b" ",
        b" \t\r\n1 ",
        b"\x0c1",
        b"\xa01",
        b"1\x00",
        b"[1,]",
        b'{"a":1,}',
        b'{"a"}',
        b"{1:2}",
        b"[1 2]",
        b"1 1",
    ),
    *(
        b'"\\ud800"',
        b'"\\ud83d\\ude00"',
        b'"\\ud83d\\u0041"',
        b'"\\udc00"',
        b'"\xed\xa0\x80"',
        b'"\xff"',
        b'"\xc0\x80"',
    ),
    *(b'"\x7f\\/\\b\\f"', b'"\x01"', b'"\n"', b'"\\u0000"', b'"\\x"', b'"\\u12"', b'"', b'"\\"', b'"\xf4\x90\x80\x80"'),
    *(b'{"a":1,"b":2,"a":3}', b'{"a":{"x":1},"a":{}}', b'{"":1,"":2}', b'{"\\u0061":1,"a":2}', b"\xef\xbb\xbf1"),
    *('"é→漢😀\u2028"'.encode(), "[1]".encode("utf-16"), b"true", b"tru", b"nul", b"TRUE", b"// x\n1", b"'a'"),
    *(b"[" * 200 + b"]" * 200, b"[" * 200_000, b"[" * 200_000 + b"]" * 200_000, b'{"a":' * 300 + b"1" + b"}" * 300),
]


@needs_fast
@pytest.mark.parametrize("name", FAST)
def test_p40_p43_documents_are_read_alike(name: str) -> None:
    for document in DOCUMENTS:
        for payload in (document, b'{"value":' + document + b"}"):
            got, want = outcome(FAST[name].decode, payload), outcome(codecs.STANDARD.decode, payload)
            assert got == want, payload[:80]


class Plain(enum.Enum):
    A = 1


class Number(enum.IntEnum):
    A = 1


class Word(str):
    __slots__ = ()


class Pair(NamedTuple):
    a: int
    b: Any


@dataclasses.dataclass
class Point:
    x: int
    _hidden: Any = None


class Overridden(Dict[str, int]):
    def items(self) -> Any:
        return [("mine", 1)]


def deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def circular() -> Any:
    value: List[Any] = []
    value.append(value)
    return value


NAN, INF = float("nan"), float("inf")
RESULTS: List[Any] = [
    *(None, True, 0, -1, 127, 255, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**40, 0.1, -0.0, 1e308, 5e-324),
    *("", 'é\u0000\x7f\u2028😀"\\/\b\f\n\r\t\x1f', "\ud800", "\udcff", [], (), {}, (1, (2,)), [[{"a": [None]}]]),
    *(NAN, INF, -INF, [NAN], [None, NAN], [None, INF], [None, -INF], {"a": {"b": (None, -NAN)}}, [None, 1.5, -1, 255]),
    *([None, "f\x03nan"], [None, "\x7f", "f\x04-inf"], ["null", NAN], [None] * 3 + [1e300, -1.7e308, 2.0**1023]),
    *({1: 2}, {None: 1}, {True: 1}, {1.5: 2}, {(1, 2): 3}, {"a": 1, 1: 2, "1": 3}, {NAN: 1}, {"\ud800": 1}),
    *({1}, frozenset(), b"x", bytearray(b"x"), memoryview(b"x"), 1j, int, object, ..., deep, range(3)),
    *(Plain.A, Number.A, [Plain.A], {Number.A: 1}, Word("w"), {Word("w"): Word("v")}, Pair(1, [2]), Pair(1, NAN)),
    *(
        Point(1),
        Point(1, NAN),
        Point(1, Point(2)),
        Point(1, {1}),
        [Point, Point(1)],
        decimal.Decimal(1),
        uuid.UUID(int=1),
    ),
    *(datetime.datetime(2020, 1, 1), datetime.date(2020, 1, 1), datetime.time(1), datetime.timedelta(1)),
    *(collections.OrderedDict(a=1), collections.Counter("aab"), collections.deque([1]), Overridden(a=2)),
    *(deep(100), deep(300), deep(200_000), circular(), {"a": circular()}),
]


@needs_fast
@pytest.mark.parametrize("name", FAST)
def test_p40_results_are_written_alike(name: str) -> None:
    for result in RESULTS:
        assert written(FAST[name], result) == written(codecs.STANDARD, result), ascii(result)[:80]


def written(codec: codecs.Codec, value: Any) -> str:
    """The result as its reader gets it, and as it is written but for numbers with a fraction."""

    def read(value: Any) -> Any:
        data = codec.encode(value)
        exact = json.loads(data.decode("utf-8"))
        return exact, json.loads(data, object_pairs_hook=list, parse_float=lambda _: "a float")

    return outcome(read, value)


def anything(chance: random.Random, depth: int) -> Any:
    """Draw a value that JSON has, or nearly."""
    kind = chance.randrange(12 if depth else 8)
    if kind < 3:
        return chance.choice([None, True, False, 0, -1, "", "null", "a", "é", "\x7f", 1.5, -0.0])
    if kind == 3:
        return chance.randrange(-(2**70), 2**70) >> chance.randrange(70)
    if kind == 4:
        number = chance.uniform(-1, 1) * 10.0 ** chance.randrange(-30, 30)
        return chance.choice([NAN, INF, -INF]) if chance.random() < 0.1 else number
    if kind < 8:
        return "".join(map(chr, chance.choices([*range(128), 0xE9, 0x2028, 0x6F22, 0x1F600], k=chance.randrange(20))))
    values = [anything(chance, depth - 1) for _ in range(chance.randrange(6))]
    if kind < 10:
        return values if kind == 8 else tuple(values)
    return {chance.choice(["a", "b", "ключ", f"k{at}"]): value for at, value in enumerate(values)}


PIECES = b'0123456789-+.eE"\\,:[]{} untf\xc3\xff\x00'


@needs_fast
@pytest.mark.parametrize("name", FAST)
def test_p43_fuzzed_values_and_documents_are_treated_alike(name: str) -> None:
    chance = random.Random(1)
    for _ in range(2000):
        value = anything(chance, 4)
        assert written(FAST[name], value) == written(codecs.STANDARD, value), ascii(value)
        document = bytearray(json.dumps(value, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass"))
        for _ in range(chance.randrange(3)):
            at = chance.randrange(len(document) + 1)
            document[at : at + chance.randrange(3)] = bytes(chance.choices(PIECES, k=chance.randrange(3)))
        payload = bytes(document)
        assert outcome(FAST[name].decode, payload) == outcome(codecs.STANDARD.decode, payload), payload


@needs_fast
def test_large_documents_go_there_and_back() -> None:
    chance = random.Random(2)
    items = [anything(chance, 3) for _ in range(3000)]
    for codec in FAST.values():
        for some in (items, [item for item in items if finite(item)]):
            result = {"items": some, "numbers": [-1] * 50_000, "none": None}
            assert written(codec, result) == written(codecs.STANDARD, result)


def finite(value: Any) -> bool:
    with contextlib.suppress(ValueError):
        json.dumps(value, allow_nan=False)
        return True
    return False


@pytest.mark.parametrize("name", codec_names())
def test_the_answer_to_init_names_the_codec(start: Any, name: str) -> None:
    worker = start("@command\ndef echo(value): return value", env={codecs.VARIABLE: name})
    assert worker.init("user_module").result["codec"] == name
    assert worker.call("echo", value=[2**70, None, 0.5]).result == [2**70, None, 0.5]


def test_without_a_name_the_fastest_is_used(start: Any) -> None:
    worker = start("@command\ndef echo(value): return value", env={codecs.VARIABLE: ""})
    assert worker.init("user_module").result["codec"] == codec_names()[0]


def test_a_codec_that_is_not_there_is_refused(start: Any) -> None:
    answer = start(env={codecs.VARIABLE: "simplejson"}).init("user_module")
    assert answer.type == "system_error/worker_boot_failed"
    assert "POOLWORKER_CODEC: there is no codec 'simplejson'; use orjson, msgspec, json" in answer.message


SHADOWS = {
    "of that name only": "",
    "that lies": "def loads(_): return 1\ndef dumps(_): return b'1'",
    "that fails": "1 / 0",
}


@pytest.mark.parametrize("case", SHADOWS)
def test_a_file_that_only_has_a_codecs_name_is_not_used(start: Any, tmp_path: Path, case: str) -> None:
    for name in ("orjson", "msgspec"):
        (tmp_path / "first" / f"{name}.py").parent.mkdir(exist_ok=True)
        (tmp_path / "first" / f"{name}.py").write_text(SHADOWS[case])
    worker = start("@command\ndef echo(value): return value", env={"PYTHONPATH": str(tmp_path / "first")})
    assert worker.init("user_module").result["codec"] == "json"
    assert worker.call("echo", value=[1, None]).result == [1, None]


def test_a_file_of_the_users_does_not_replace_the_codec(serve: Serve, tmp_path: Path) -> None:
    for name in ("orjson", "msgspec"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the user\\'s')")
    assert serve("@command\ndef echo(value): return value").call("echo", value={"a": 0.5}).result == {"a": 0.5}


def test_p76_too_little_memory_for_the_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the call's failure, as in a handler, and not the worker's end."""

    def starve(_payload: bytes) -> Any:
        raise MemoryError

    monkeypatch.setattr(chosen, "_decode", starve)
    with pytest.raises(Failure) as caught:
        chosen.decode_arguments(b"{}")
    assert (caught.value.category, caught.value.type) == ("communication_error", "python_error")
    assert caught.value.message.startswith("MemoryError")
