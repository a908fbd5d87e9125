"""Results that JSON has no form for are converted, by each codec alike, and what was written can be read again."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import ipaddress
import json
import pathlib
import subprocess
import sys
import types
import uuid
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import pytest
from harness import codec_names

from poolworker import codecs
from poolworker.conversions import reader

CODECS = {name: codecs.load(name) for name in codec_names()}
SOME_ID = uuid.UUID("12345678-1234-5678-1234-567812345678")
ZONE = datetime.timezone(datetime.timedelta(hours=-3, minutes=-30))


class Level(enum.Enum):
    HIGH = "high"
    SINCE = datetime.date(2026, 1, 31)


class Colour(str, enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    a: int
    b: Any


@dataclasses.dataclass
class Item:
    id: uuid.UUID
    levels: List[Level]


class Later(datetime.datetime):
    pass


RESULTS: Dict[str, Tuple[Any, Any]] = {
    "date": (datetime.date(2026, 1, 31), "2026-01-31"),
    "datetime": (datetime.datetime(2026, 1, 31, 9, 30), "2026-01-31T09:30:00"),
    "datetime with a zone": (datetime.datetime(2026, 1, 31, 9, 30, 0, 5, ZONE), "2026-01-31T09:30:00.000005-03:30"),
    "a subclass of it": (Later(2026, 1, 31), "2026-01-31T00:00:00"),
    "time": (datetime.time(9, 30), "09:30:00"),
    "timedelta": (datetime.timedelta(days=1, microseconds=500), "PT86400.0005S"),
    "timedelta below zero": (-datetime.timedelta(seconds=90), "-PT90S"),
    "UUID": (SOME_ID, str(SOME_ID)),
    "Decimal": (decimal.Decimal("0.10"), "0.10"),
    "bytes": (b"\x00\xff", "AP8="),
    "bytearray": (bytearray(b"hi"), "aGk="),
    "memoryview": (memoryview(b"hi"), "aGk="),
    "path": (pathlib.PurePosixPath("/a/b"), "/a/b"),
    "address": (ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
    "enum": (Level.HIGH, "high"),
    "enum of another type": (Level.SINCE, "2026-01-31"),
    "enum that is text": (Colour.RED, "red"),
    "set": ({1}, [1]),
    "frozenset": (frozenset("a"), ["a"]),
    "deque": (collections.deque([1, 2]), [1, 2]),
    "range": (range(2), [0, 1]),
    "keys": ({"a": 1}.keys(), ["a"]),
    "values": ({"a": 1}.values(), [1]),
    "read-only mapping": (types.MappingProxyType({"a": 1}), {"a": 1}),
    "chain of mappings": (collections.ChainMap({"a": SOME_ID}), {"a": str(SOME_ID)}),
    "named tuple": (Pair(1, datetime.date(2026, 1, 31)), [1, "2026-01-31"]),
    "dataclass": (Item(SOME_ID, [Level.HIGH]), {"id": str(SOME_ID), "levels": ["high"]}),
    "keys that are no text": (
        {SOME_ID: 1, Level.HIGH: 2, datetime.date(2026, 1, 31): 3, 4: 5, None: 6, Colour.RED: 7},
        {str(SOME_ID): 1, "high": 2, "2026-01-31": 3, "4": 5, "null": 6, "red": 7},
    ),
    "deep inside": ([{"a": ({"b": {SOME_ID}},)}], [{"a": [{"b": [str(SOME_ID)]}]}]),
}


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("case", RESULTS)
def test_results_become_json_by_the_same_table_in_every_codec(case: str, name: str) -> None:
    value, want = RESULTS[case]
    assert json.loads(CODECS[name].encode(value)) == want
    assert json.loads(CODECS[name].encode({"result": [value]})) == {"result": [want]}


BROKEN: Dict[str, Tuple[Callable[[], Any], str]] = {
    "an object": (lambda: {"items": [1, {"price": object()}]}, "builtins.object at items[1].price, which isn't JSON"),
    "a generator inside": (lambda: [(n for n in range(3))], "builtins.generator at [0]"),
    "a class": (lambda: {"a": Item}, "builtins.type at a"),
    "NaN": (lambda: {"items": [1.0, float("nan")]}, "NaN or Infinity at items[1]"),
    "a decimal NaN": (lambda: decimal.Decimal("NaN"), "NaN or Infinity"),
    "a lone surrogate": (lambda: {"a": ["\ud800"]}, "lone surrogate at a[0]"),
    "a key": (lambda: {"a": {(1, 2): 3}}, "not tuple at a"),
    "a circle": (lambda: _circle(), "Circular reference detected at a"),
    "inside of a dataclass": (lambda: Item(SOME_ID, [object()]), "builtins.object at levels[0]"),  # type: ignore[list-item]
    "a long key": (lambda: {"k" * 5000: object()}, f"builtins.object at {'k' * 100}, which"),
}  # fmt: skip


def _circle() -> Any:
    value: Dict[str, Any] = {}
    value["a"] = {"b": value}
    return value


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("case", BROKEN)
def test_p40_what_cannot_be_written_is_named_with_its_place(case: str, name: str) -> None:
    make, message = BROKEN[case]
    with pytest.raises((TypeError, ValueError)) as caught:
        CODECS[name].encode(make())
    assert message in str(caught.value)


WRITTEN: List[Any] = [
    datetime.date(1, 1, 1),
    datetime.datetime(9999, 12, 31, 23, 59, 59, 999_999, ZONE),
    datetime.time(23, 59, 59, 1, datetime.timezone.utc),
    datetime.timedelta.max,
    datetime.timedelta.min,
    datetime.timedelta(microseconds=-1),
    SOME_ID,
    decimal.Decimal("-1E+400"),
    decimal.Decimal("0.000000001"),
    b"",
    bytes(range(256)),
    pathlib.PurePosixPath("."),
    ipaddress.ip_interface("::1/64"),
]


@pytest.mark.parametrize("value", WRITTEN, ids=repr)
def test_p43_what_is_written_is_read_as_the_same(value: Any) -> None:
    found = reader(type(value))
    assert found is not None
    again = found.read(type(value), json.loads(codecs.STANDARD.encode(value)))
    assert (again, type(again)) == (value, type(value))


def test_no_module_of_the_table_is_imported_before_it_is_needed() -> None:
    source = "import sys; import poolworker.worker, poolworker.boot, poolworker.arguments; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", source], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"dataclasses", "datetime", "decimal", "uuid", "ipaddress", "pathlib"} & set(loaded)
