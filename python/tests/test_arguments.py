"""Arguments are checked against annotations; what JSON has no form for is converted."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import ipaddress
import json
import pathlib
import sys
import types
import typing
import uuid
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Tuple, Union

import pytest
from conftest import Serve
from harness import codec_names

from poolworker import CallerError, codecs, frames
from poolworker.commands import Command
from poolworker.errors import Failure


class Level(enum.Enum):
    LOW = 1
    HIGH = "high"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Shape(enum.Enum):
    CIRCLE = "circle"

    @classmethod
    def _missing_(cls, value: object) -> Any:
        return cls.CIRCLE if value == "round" else None


class Pair(NamedTuple):
    a: int
    b: str = "x"


class Options(typing.TypedDict, total=False):
    depth: int
    when: datetime.date


@dataclasses.dataclass
class Item:
    name: str
    price: float = 0.0
    made: Optional[datetime.date] = None
    inside: List[Item] = dataclasses.field(default_factory=list)
    kind: typing.ClassVar[str] = "item"
    total: float = dataclasses.field(init=False, default=0.0)


class Group(Exception):
    """As an ExceptionGroup, in all Pythons."""

    def __init__(self, exceptions: List[Exception]) -> None:
        self.exceptions = exceptions

    def split(self) -> None: ...


@dataclasses.dataclass
class Positive:
    value: int

    def __post_init__(self) -> None:
        if self.value == 13:
            raise CallerError("thirteen isn't welcome")
        if self.value == 14:
            raise Group([CallerError("fourteen"), CallerError("isn't either")])
        if self.value < 0:
            raise ValueError(f"secret {self.value}")
        1 / self.value


Ids = typing.NewType("Ids", List[uuid.UUID])
T = typing.TypeVar("T")
Tree = Union[datetime.date, List["Tree"], Dict[str, "Tree"]]
SOME_ID = uuid.UUID("12345678-1234-5678-1234-567812345678")
UTC = datetime.timezone.utc


def call(hint: Any, value: Any) -> Any:
    """Return what a handler gets for a value annotated like that."""

    def handler(x): ...  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202

    handler.__annotations__ = {"x": hint}
    command = Command("handler", handler)
    command.compile()
    arguments = json.loads(json.dumps({"x": value}))
    command.check(arguments)
    return arguments["x"]


def refused(hint: Any, value: Any) -> str:
    with pytest.raises(Failure) as caught:
        call(hint, value)
    assert (caught.value.category, caught.value.type) == ("request_error", "invalid_payload")
    assert caught.value.context["argument"] == caught.value.message.partition(": ")[0]
    return caught.value.message.partition("; it is")[0]


GOOD: Dict[str, Tuple[Any, Any, Any]] = {
    "a string": (str, "é", "é"),
    "an integer of any size": (int, 2**200, 2**200),
    "an integer with a point": (int, 3.0, 3),
    "a boolean": (bool, False, False),
    "an integer where a number is wanted": (float, 2**53 + 1, 2**53 + 1),
    "null": (None, None, None),
    "anything": (Any, [None], [None]),
    "a type variable": (T, 3, 3),
    "a class that JSON has no values of": (complex, [3], [3]),
    "an optional that is null": (Optional[int], None, None),
    "the later part of a union": (Union[int, List[str]], ["a"], ["a"]),
    "a float in a union with int": (Union[int, float], 1.0, 1.0),
    "the first part that fits": (Union[datetime.date, str], "2026-01-31", datetime.date(2026, 1, 31)),
    "and else the next": (Union[datetime.date, str], "soon", "soon"),
    "a bare list": (list, [1, "a"], [1, "a"]),
    "a list": (List[int], [1, 2.0], [1, 2]),
    "a list of anything": (List[Any], [1, "a"], [1, "a"]),
    "a sequence": (typing.Sequence[str], ["a"], ["a"]),
    "a tuple": (Tuple[int, str], [1, "a"], (1, "a")),
    "a tuple of any length": (Tuple[int, ...], [1, 2], (1, 2)),
    "a bare tuple": (tuple, [1], (1,)),
    "a set": (typing.Set[int], [1, 1, 2], {1, 2}),
    "a frozenset": (typing.FrozenSet[str], ["a"], frozenset("a")),
    "a deque": (Deque[int], [1], collections.deque([1])),
    "a dict": (Dict[str, List[int]], {"a": [1]}, {"a": [1]}),
    "a dict with integer keys": (Dict[int, str], {"1": "a"}, {1: "a"}),
    "a dict with dates for keys": (Dict[datetime.date, int], {"2026-01-31": 1}, {datetime.date(2026, 1, 31): 1}),
    "a counter": (typing.Counter[str], {"a": 2}, collections.Counter(a=2)),
    "a literal": (typing.Literal["a", 1], 1, 1),
    "a literal member": (typing.Literal[Level.HIGH], "high", Level.HIGH),
    "annotated": (typing.Annotated[int, "metres"], 1, 1),
    "a new type": (Ids, [str(SOME_ID)], [SOME_ID]),
    "a date and time": (datetime.datetime, "2026-01-31T09:30:00Z", datetime.datetime(2026, 1, 31, 9, 30, tzinfo=UTC)),
    "a date and time without a zone": (
        datetime.datetime,
        "2026-01-31 09:30:00.25",
        datetime.datetime(2026, 1, 31, 9, 30, 0, 250_000),
    ),
    "a time": (datetime.time, "09:30", datetime.time(9, 30)),
    "a duration": (
        datetime.timedelta,
        "-P1DT2H3M4.5S",
        -datetime.timedelta(days=1, hours=2, minutes=3, seconds=4.5),
    ),
    "a duration in seconds": (datetime.timedelta, 1.5, datetime.timedelta(seconds=1.5)),
    "a UUID": (uuid.UUID, str(SOME_ID), SOME_ID),
    "a decimal as text": (decimal.Decimal, "0.10", decimal.Decimal("0.10")),
    "a decimal as a number": (decimal.Decimal, 0.1, decimal.Decimal("0.1")),
    "bytes": (bytes, "aGk=", b"hi"),
    "a path": (pathlib.Path, "/a/b", pathlib.Path("/a/b")),
    "an address": (ipaddress.IPv4Address, "10.0.0.1", ipaddress.IPv4Address("10.0.0.1")),
    "an enum by value": (Level, 1, Level.LOW),
    "flags": (Access, 3, Access.READ | Access.WRITE),
    "an enum's own rule": (Shape, "round", Shape.CIRCLE),
    "a named tuple as an array": (Pair, [1], Pair(1)),
    "a named tuple as an object": (Pair, {"a": 1, "b": "y"}, Pair(1, "y")),
    "a typed dict with more in it": (
        Options,
        {"when": "2026-01-31", "else": 1},
        {"when": datetime.date(2026, 1, 31), "else": 1},
    ),
    "a dataclass": (Item, {"name": "a", "made": "2026-01-31"}, Item("a", made=datetime.date(2026, 1, 31))),
    "a dataclass in itself": (List[Item], [{"name": "a", "inside": [{"name": "b"}]}], [Item("a", inside=[Item("b")])]),
    "an alias in itself": (Tree, [{"a": ["2026-01-31"]}], [{"a": [datetime.date(2026, 1, 31)]}]),
    "an annotation in text": ("Optional[Dict[str, Level]]", {"a": "high"}, {"a": Level.HIGH}),
    "a union with a bar, in text": ("int | None", None, None),
}  # fmt: skip


@pytest.mark.parametrize("case", GOOD)
def test_arguments_that_fit_arrive_as_they_are_annotated(case: str) -> None:
    hint, value, want = GOOD[case]
    got = call(hint, value)
    assert got == want
    assert type(got) is type(want)


BAD: Dict[str, Tuple[Any, Any, str]] = {
    "a number for text": (str, 3, "x: expected a string, got a number"),
    "null for text": (str, None, "x: expected a string, got null"),
    "a boolean for an integer": (int, True, "x: expected an integer, got a boolean"),
    "a fraction for an integer": (int, 1.5, "x: expected an integer, got a number with a fraction"),
    "a float that isn't exact": (int, 1e300, "x: expected an integer, got a number"),
    "a boolean for a number": (float, False, "x: expected a number, got a boolean"),
    "text for a number": (float, "1", "x: expected a number, got a string"),
    "a number for a boolean": (bool, 1, "x: expected a boolean, got a number"),
    "something for null": (None, 0, "x: expected null, got a number"),
    "an optional": (Optional[int], "1", "x: expected an integer or null, got a string"),
    "inside of an optional": (Optional[List[int]], ["1"], "x[0]: expected an integer, got a string"),
    "none of a union": (Union[datetime.date, uuid.UUID], "x", "x: expected a date like 2026-01-31 or a UUID"),
    "an object for a list": (List[int], {}, "x: expected an array, got an object"),
    "text for a sequence": (typing.Sequence[str], "abc", "x: expected an array, got a string"),
    "deep inside": (Dict[str, List[Item]], {"a": [{"name": "b", "price": "c"}]}, "x.a[0].price: expected a number"),
    "a list in a set": (typing.Set[Any], [[1]], "x: expected items that a set can hold"),
    "a tuple that is too short": (Tuple[int, str], [1], "x: expected an array of 2, got one of 1"),
    "a wrong key": (Dict[int, str], {"one": "a"}, "x.one: expected a key that is an integer"),
    "none of a literal": (typing.Literal["a", 1], True, 'x: expected one of "a", 1, got a boolean'),
    "another text": (typing.Literal["a"], "b", 'x: expected one of "a", got another string'),
    "no member": (Level, "low", 'x: expected one of 1, "high", got another string'),
    "no flags": (Access, -99.5, "x: expected one of 1, 2"),
    "no date": (datetime.date, "31.1.2026", "x: expected a date like 2026-01-31, got another string"),
    "no such date": (datetime.date, "2026-02-30", "x: expected a date like 2026-01-31, got another string"),
    "a date for a time": (datetime.datetime, "2026-01-31", "x: expected a date and time like 2026-01-31T09:30:00Z"),
    "seconds for a time": (datetime.datetime, 1.5, "x: expected a date and time like 2026-01-31T09:30:00Z, got a"),
    "no duration": (datetime.timedelta, "P", "x: expected a duration"),
    "an endless duration": (datetime.timedelta, 1e300, "x: expected a duration"),
    "no UUID": (uuid.UUID, "1", "x: expected a UUID, got another string"),
    "no decimal": (decimal.Decimal, "NaN", "x: expected a decimal number"),
    "no base64": (bytes, "a", "x: expected bytes in base64"),
    "no address": (ipaddress.IPv4Address, "10.0.0.256", "x: expected an IPv4 address"),
    "a field too many": (Item, {"name": "a", "colour": 1}, "x.colour: Item has no such field"),
    "a field that isn't the caller's": (Item, {"name": "a", "total": 1}, "x.total: Item has no such field"),
    "a missing field": (Item, {}, "x.name: missing, and Item needs it"),
    "a typed dict's": (Options, {"depth": "1"}, "x.depth: expected an integer, got a string"),
    "a named tuple's": (Pair, ["1"], "x[0]: expected an integer, got a string"),
    "values that a class refuses": (Positive, {"value": -4711}, "x: Positive refuses these values (ValueError)"),
    "in an alias in itself": (Tree, [{"a": ["soon"]}], "x[0].a[0]: expected a date like 2026-01-31"),
    "base64 that is cut": (bytes, "aGk", "x: expected bytes in base64"),
    "base64 of other letters": (bytes, "a-b_", "x: expected bytes in base64"),
    "a long key": (Dict[str, int], {"k" * 5000: "v"}, "x." + "k" * 99 + "…: expected an integer, got a string"),
    "long text": (int, "s" * 5000, "x: expected an integer, got a string"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_p54_what_does_not_fit_is_the_callers_error_and_names_the_place_not_the_value(case: str) -> None:
    hint, value, message = BAD[case]
    assert refused(hint, value).startswith(message)


def test_p35_arguments_nested_deeper_than_python_follows_are_the_callers_error() -> None:
    value: Dict[str, Any] = {"name": "a"}
    for _ in range(1000):
        value = {"name": "a", "inside": [value]}
    command = compiled(takes_an_item)
    with pytest.raises(Failure, match="item: nested deeper than Python can follow") as caught:
        command.check({"item": value})
    assert caught.value.type == "invalid_payload"


def takes_an_item(item: Item) -> None: ...


class Failed(NamedTuple):
    type: str
    message: str


def failed(hint: Any, value: Any) -> Failed:
    with pytest.raises(Failure) as caught:
        call(hint, value)
    return Failed(f"{caught.value.category}/{caught.value.type}", caught.value.message)


def test_what_a_class_raises_as_its_values_come_is_whose_fault_it_says() -> None:
    assert failed(Positive, {"value": 13}) == ("request_error/caller_error", "thirteen isn't welcome")
    assert failed(Positive, {"value": 14}) == ("request_error/caller_error", "fourteen; isn't either")
    assert failed(Positive, {"value": 0}).type == "communication_error/python_error"  # a bug


def outer(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@outer
def wrapped(when: datetime.date) -> Any:
    return when


class Handler:
    def __call__(self, when: datetime.date) -> Any:
        return when

    def method(self, when: datetime.date) -> Any:
        return when


CALLABLES: Dict[str, Callable[..., Any]] = {
    "wrapped": wrapped,
    "a method": Handler().method,
    "an object": Handler(),
    "partial": functools.partial(wrapped),
    "wrapped twice": outer(wrapped),
}


@pytest.mark.parametrize("case", CALLABLES)
def test_annotations_are_found_behind_every_callable(case: str) -> None:
    command = Command("c", CALLABLES[case])
    command.compile()
    arguments: Dict[str, Any] = {"when": "2026-01-31"}
    command.check(arguments)
    assert arguments == {"when": datetime.date(2026, 1, 31)}
    with pytest.raises(Failure, match="when: expected a date"):
        command.check({"when": 1})


def compiled(function: Callable[..., Any], typed: bool = True) -> Command:
    command = Command("c", function, typed)
    command.compile()
    return command


def test_defaults_that_do_not_fit_loosen_their_annotation() -> None:
    def handler(a: int = None, b: int = "auto", c: datetime.date = datetime.date.max): ...  # type: ignore # noqa: ANN202, RUF013

    command = compiled(handler)
    command.check({"a": None, "b": "auto"})
    command.check({})
    for wrong in ({"a": "x"}, {"b": 1.5}, {"c": None}):
        with pytest.raises(Failure):
            command.check(wrong)


def test_keywords_beyond_the_named_ones_are_checked() -> None:
    def handler(a: int, **rest: datetime.date) -> None: ...

    command = compiled(handler)
    arguments: Dict[str, Any] = {"a": 1, "b": "2026-01-31"}
    command.check(arguments)
    assert arguments["b"] == datetime.date(2026, 1, 31)
    with pytest.raises(Failure, match="b: expected a date"):
        command.check({"a": 1, "b": 1})


def test_check_false_leaves_arguments_as_json() -> None:
    command = compiled(wrapped, typed=False)
    arguments = {"when": 3}
    command.check(arguments)
    assert arguments == {"when": 3}
    with pytest.raises(Failure, match="no argument"):
        command.check({"else": 3})


def test_a_callable_without_a_signature_is_unchecked() -> None:
    command = compiled(max)
    command.check({"anything": 1})


def test_a_users_pathlib_keeps_no_class_from_being_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pathlib", types.ModuleType("pathlib"))
    assert refused(Item, {"name": 1}).startswith("x.name: expected a string")


PYDANTIC = """
import typing, datetime, pydantic
class Line(pydantic.BaseModel):
    price: float = pydantic.Field(gt=0)
    when: datetime.date
@command
def total(lines: typing.List[Line], factor: typing.Annotated[int, pydantic.Field(le=3)] = 1):
    return {"sum": sum(line.price for line in lines) * factor, "lines": lines}
"""
MSGSPEC = """
import typing, datetime, msgspec
class Line(msgspec.Struct):
    price: typing.Annotated[float, msgspec.Meta(gt=0)]
    when: datetime.date
@command
def total(lines: typing.List[Line], factor: typing.Annotated[int, msgspec.Meta(le=3)] = 1):
    return {"sum": sum(line.price for line in lines) * factor, "lines": lines}
"""


@pytest.mark.parametrize(("library", "source"), [("pydantic", PYDANTIC), ("msgspec", MSGSPEC)])
@pytest.mark.parametrize("name", codec_names())
def test_models_of_a_library_are_read_and_written_by_it(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, library: str, source: str, name: str
) -> None:
    pytest.importorskip(library)
    monkeypatch.setenv(codecs.VARIABLE, name)
    worker = serve(source)
    line = {"price": 2.5, "when": "2026-01-31"}
    assert worker.call("total", lines=[line], factor=2).result == {"sum": 5.0, "lines": [line]}
    for arguments, path in (
        ({"lines": [line, {"price": "s3cret", "when": "2026-01-31"}]}, "lines[1].price: "),
        ({"lines": [{"price": -4711, "when": "2026-01-31"}]}, "lines[0].price: "),
        ({"lines": [{"price": 1}]}, "lines[0]"),
        ({"lines": [], "factor": 4}, "factor: "),
    ):
        answer = worker.call("total", **arguments)
        assert answer.type == "request_error/invalid_payload"
        assert answer.message.startswith(path)
        assert "s3cret" not in answer.message
        assert "4711" not in answer.message


EVERYWHERE = """
import dataclasses, datetime, typing
@dataclasses.dataclass
class Item:
    price: float
    when: datetime.date
@command
def plain(items: typing.List[Item]): return items[0].when
@command
async def waits(items: typing.List[Item]): return items[0].when
@command
def stream(items: typing.List[Item]):
    for item in items: yield item
"""
ITEM = {"price": 1.5, "when": "2026-01-31"}


@pytest.mark.parametrize("concurrency", [1, 2])
def test_every_way_of_a_call_checks_and_converts(serve: Serve, concurrency: int) -> None:
    worker = serve(EVERYWHERE, concurrency=concurrency)
    for command, result in (("plain", "2026-01-31"), ("waits", "2026-01-31"), ("stream", [ITEM])):
        assert worker.call(command, items=[ITEM]).result == result
        answer = worker.call(command, items=[ITEM, {"price": "x", "when": "2026-01-31"}])
        assert answer.type == "request_error/invalid_payload"
        assert answer.message.startswith("items[1].price: expected a number, got a string; it is " + command)
        assert answer.body["context"]["argument"] == "items[1].price"
        batch = json.dumps({"inputs": [{"items": [ITEM]}, {"items": 3}]}).encode()
        id = worker.send(frames.REQUEST, batch, command.encode(), flags=frames.FLAG_BATCH)
        outputs = worker.reply(id).result["outputs"]
        assert outputs[0] == {"result": result}
        assert outputs[1]["error"]["type"] == "invalid_payload"


def test_classes_of_attrs(serve: Serve) -> None:
    pytest.importorskip("attrs")
    worker = serve("""
import datetime, typing, attrs
@attrs.define
class Thing:
    name: str
    _when: typing.Optional[datetime.date] = None
@command
def echo(thing: Thing): return [thing, type(thing).__name__]
""")
    assert worker.call("echo", thing={"name": "a", "when": "2026-01-31"}).result == [
        {"name": "a", "_when": "2026-01-31"},
        "Thing",
    ]
    assert worker.call("echo", thing={"name": 1}).message.startswith("thing.name: expected a string, got a number")
