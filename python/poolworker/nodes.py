"""What an annotation says of a JSON value: which types of values are right as they are, and what becomes of others."""

from __future__ import annotations

from enum import Flag
from re import fullmatch
from typing import Any, Callable, Dict, Final, FrozenSet, Iterable, List, NamedTuple, Optional, Sequence

from poolworker.conversions import Reader, json_form
from poolworker.mismatch import Mismatch, malformed, wrong

JSON: Final[FrozenSet[type]] = frozenset({type(None), bool, int, float, str, list, dict})
"""The types of values that JSON gives."""

_MAX_LISTED: Final = 10  # values of an enumeration that a message names
_EXACT: Final = 2**53  # from here on not every whole number has a float


class Node(NamedTuple):
    """What an annotation says. A value whose type is in neither set is wrong."""

    passes: FrozenSet[type]
    """Types of values that are right as they are."""
    takes: FrozenSet[type]
    """Types of values that convert may accept."""
    expected: str
    """What a message says is expected."""
    convert: Callable[[Any], Any]
    """Returns what the handler gets for a value of a type that doesn't pass. Raises Mismatch."""


Made = Optional[Node]
"""None: anything is right as it is."""

Convert = Callable[[Any], Any]


def make(passes: Iterable[type], takes: Iterable[type], expected: str, convert: Convert) -> Node:
    """Make a node whose convert is asked only about values of the types that it takes."""
    taken = frozenset(takes)

    def checked(value: Any) -> Any:
        if type(value) not in taken:
            raise wrong(expected, value)
        return convert(value)

    return Node(frozenset(passes), taken, expected, checked)


def plain(expected: str, *passes: type) -> Node:
    """Make a node for values that JSON has."""
    return make(passes, (), expected, lambda value: value)


def apply(node: Made, value: Any) -> Any:
    """Return what a handler gets for a value. Raises Mismatch."""
    if node is None or type(value) in node.passes:
        return value
    return node.convert(value)


def _whole(value: float) -> int:
    if not value.is_integer() or abs(value) > _EXACT:
        raise wrong("an integer", value)
    return int(value)


NONE: Final = plain("null", type(None))
STRING: Final = plain("a string", str)
BOOLEAN: Final = plain("a boolean", bool)
INTEGER: Final = make((int,), (float,), "an integer", _whole)
NUMBER: Final = plain("a number", int, float)
ARRAY: Final = plain("an array", list)
OBJECT: Final = plain("an object", dict)


def read_by(cls: type, reader: Reader) -> Node:
    """Make a node for a type of the table in conversions."""

    def convert(value: Any) -> Any:
        try:
            return reader.read(cls, value)
        except (ValueError, OverflowError, ArithmeticError):
            raise malformed(reader.expected, value) from None

    return make((), reader.takes, reader.expected, convert)


def array(item: Made, collect: Optional[Callable[[List[Any]], Any]] = None) -> Node:
    """Make a node for arrays; collect makes something else than a list of the items."""
    if item is None and collect is None:
        return ARRAY

    def convert(value: List[Any]) -> Any:
        items = value if item is None or item.passes.issuperset(map(type, value)) else _items(value, item)
        if collect is None:
            return items
        try:
            return collect(items)
        except TypeError:  # a list or dict in a set
            raise Mismatch("expected items that a set can hold, got an array or object among them") from None

    return make((), (list,), "an array", convert)


def _items(value: List[Any], item: Node) -> List[Any]:
    passes, convert = item.passes, item.convert
    items = list(value)
    for i, each in enumerate(value):
        if type(each) not in passes:
            try:
                items[i] = convert(each)
            except Mismatch as mismatch:
                raise mismatch.within(i)  # noqa: B904 - it is the same one
    return items


def tuple_of(items: Sequence[Made]) -> Node:
    """Make a node for an array with so many items, each of its own kind, which becomes a tuple."""
    expected = f"an array of {len(items)}"

    def convert(value: List[Any]) -> Any:
        if len(value) != len(items):
            raise Mismatch(f"expected {expected}, got one of {len(value)}", expected)
        return tuple(placed(value, items))

    return make((), (list,), expected, convert)


def placed(value: Sequence[Any], items: Sequence[Made]) -> List[Any]:
    """Apply each node to the item at its place."""
    made = []
    for i, (each, node) in enumerate(zip(value, items)):
        try:
            made.append(apply(node, each))
        except Mismatch as mismatch:
            raise mismatch.within(i)  # noqa: B904
    return made


def mapping(key: Made, item: Made, collect: Optional[Callable[[Dict[Any, Any]], Any]] = None) -> Node:
    """Make a node for objects; collect makes something else than a dict of it."""
    texts = key is None or str in key.passes
    if texts and item is None and collect is None:
        return OBJECT

    def convert(value: Dict[str, Any]) -> Any:
        made: Dict[Any, Any] = value
        if not (texts and (item is None or item.passes.issuperset(map(type, value.values())))):
            made = {}
            for name, each in value.items():
                try:
                    made[name if texts else _key(key, name)] = apply(item, each)
                except Mismatch as mismatch:
                    raise mismatch.within(name)  # noqa: B904
        return made if collect is None else collect(made)

    return make((), (dict,), "an object", convert)


_SCALARS: Final[Dict[str, Any]] = {"true": True, "false": False, "null": None}


def _key(node: Made, text: str) -> Any:
    """Return what a key means, which in JSON is text: also a number, say, as that is written in values."""
    try:
        return apply(node, text)
    except Mismatch as mismatch:
        if text in _SCALARS:
            value = _SCALARS[text]
        elif fullmatch(r"-?[0-9]{1,4000}", text):
            value = int(text)
        elif fullmatch(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,4})?", text):
            value = float(text)
        else:
            raise Mismatch(f"expected a key that is {mismatch.expected}") from None
        try:
            return apply(node, value)
        except Mismatch:
            raise Mismatch(f"expected a key that is {mismatch.expected}") from None


def one_of(values: Iterable[Any], otherwise: Optional[Convert] = None) -> Node:
    """Make a node for the members of an Enum or of a Literal. otherwise: is asked about what isn't one of them."""
    members = [(json_form(value), value) for value in values]
    shown = [repr(form).replace("'", '"') if isinstance(form, str) else str(form) for form, _ in members]
    more = ", …" if len(shown) > _MAX_LISTED else ""
    expected = f"one of {', '.join(shown[:_MAX_LISTED])}{more}"[:400]

    def convert(value: Any) -> Any:
        for form, member in members:
            if type(form) is type(value) and form == value:
                return member
        if otherwise is None:
            raise malformed(expected, value)
        try:
            return otherwise(value)
        except (ValueError, TypeError):
            raise malformed(expected, value) from None

    return make((), {type(form) for form, _ in members}, expected, convert)


def enumeration(cls: Any) -> Node:
    """Make a node for an Enum: by its members' values, and by its own `_missing_`; of a Flag also combinations."""
    own = "_missing_" in {name for base in cls.__mro__ for name in vars(base) if base.__module__ != "enum"}
    return one_of(cls, cls if own or issubclass(cls, Flag) else None)


def union(members: Sequence[Node]) -> Node:
    """Make a node for what fits one of several, the first that it fits.

    A whole number in a float is one only where no member has floats: in Union[int, float] 1.0 stays what it is.
    """
    passes, takes = set(), set()
    for kind in JSON:
        for node in members:
            if kind in node.passes:
                passes.add(kind)
                break
            if kind in node.takes and not (kind is float and any(float in other.passes for other in members)):
                takes.add(kind)
                break
    expected = " or ".join(dict.fromkeys(node.expected for node in members))
    return make(passes, takes, expected, lambda value: _first(members, expected, value))


def _first(members: Sequence[Node], expected: str, value: Any) -> Any:
    failed: List[Mismatch] = []
    for node in members:
        if type(value) in node.passes:
            return value
        if type(value) in node.takes:
            try:
                return node.convert(value)
            except Mismatch as mismatch:
                failed.append(mismatch)
    deepest = max(failed, key=lambda mismatch: mismatch.depth)
    if len(failed) == 1 or deepest.depth > 0:
        raise deepest
    raise malformed(expected, value)


def of_default(node: Node, default: Any) -> FrozenSet[type]:
    """Return the types that an argument may have for its default's sake: None, as in `words: int = None`.

    A default that doesn't fit its annotation shows that this isn't meant strictly.
    """
    kind = type(default)
    if kind not in JSON or kind in node.passes:
        return frozenset()
    try:
        node.convert(default)
    except Mismatch:
        return frozenset((kind,))
    except Exception:  # noqa: BLE001 - of the user's code
        return frozenset()
    return frozenset()
