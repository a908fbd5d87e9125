"""Types that JSON has no form for: how their values are written as JSON, and read back from it.

    datetime, date, time     text, ISO 8601: 2026-01-31T09:30:00+00:00
    timedelta                text, ISO 8601: PT90.5S; a number of seconds is read, too
    UUID, IP addresses       text
    Decimal                  text, so that no digit is lost; a number is read, too
    bytes, bytearray         text, base64
    Path                     text
    Enum                     its value

None of their modules is imported here: most workers need none, and each costs milliseconds of every start. A value, or
an annotation, of such a type has imported its module already.
"""

from __future__ import annotations

import re
import sys
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping, Sequence, Set, ValuesView
from enum import Enum
from functools import lru_cache
from os import fsdecode, fspath
from typing import Any, Callable, Dict, Final, List, Optional, Tuple

_ADVICE: Final = "which isn't JSON; return dict, list, str, int, float, bool, None, a dataclass or a date, say"
_ADDRESSES: Final = ("IPv4Address", "IPv6Address", "IPv4Network", "IPv6Network", "IPv4Interface", "IPv6Interface")


def plain(value: Any) -> Any:
    """Return what stands for a value that the JSON encoder doesn't know; the encoder goes on with it.

    Raises TypeError when nothing does.
    """
    cls: Any = type(value)
    write = _writer(cls)
    if write is None:
        raise TypeError(f"the result holds a {cls.__module__}.{cls.__qualname__}, {_ADVICE}")
    return write(value)


@lru_cache(maxsize=512)
def _writer(cls: Any) -> Optional[Callable[[Any], Any]]:
    """Return how values of a class are written; that of its first base that is known."""
    for base in cls.__mro__:
        write = _WRITERS.get((base.__module__, base.__qualname__))
        if write is not None:
            return write
    for attribute, write in _BY_ATTRIBUTE:
        if hasattr(cls, attribute):
            return write
    for kinds, write in _BY_KIND:
        if issubclass(cls, kinds):
            return write
    return None


def _write_duration(value: Any) -> str:
    """Write a timedelta exactly: its seconds as a float may not be."""
    microseconds = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
    seconds, rest = divmod(abs(microseconds), 1_000_000)
    fraction = f".{rest:06}".rstrip("0") if rest else ""
    return f"{'-' if microseconds < 0 else ''}PT{seconds}{fraction}S"


def _write_decimal(value: Any) -> str:
    if not value.is_finite():
        raise ValueError("the result holds NaN or Infinity, which JSON doesn't have; return None instead")
    return str(value)


def _write_bytes(value: Any) -> str:
    return b2a_base64(value, newline=False).decode("ascii")


def _write_path(value: Any) -> str:
    path = fspath(value)
    return path if isinstance(path, str) else fsdecode(path)


def _write_dataclass(value: Any) -> Dict[str, Any]:
    dataclasses = sys.modules["dataclasses"]  # the user's class imported it
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _write_attrs(value: Any) -> Dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in type(value).__attrs_attrs__}


def _write_pydantic(value: Any) -> Any:
    return value.model_dump(mode="json")


def _write_pydantic_v1(value: Any) -> Any:
    return value.dict()


def _write_struct(value: Any) -> Any:
    return sys.modules["msgspec"].to_builtins(value, str_keys=True, enc_hook=plain)


_WRITERS: Final[Dict[Tuple[str, str], Callable[[Any], Any]]] = {
    ("datetime", "date"): lambda value: value.isoformat(),  # and a datetime, which is one
    ("datetime", "time"): lambda value: value.isoformat(),
    ("datetime", "timedelta"): _write_duration,
    ("uuid", "UUID"): str,
    ("decimal", "Decimal"): _write_decimal,
    **{("ipaddress", name): str for name in _ADDRESSES},
    ("builtins", "bytes"): _write_bytes,
    ("builtins", "bytearray"): _write_bytes,
    ("builtins", "memoryview"): _write_bytes,
    ("enum", "Enum"): lambda value: value.value,
}
_BY_ATTRIBUTE: Final[List[Tuple[str, Callable[[Any], Any]]]] = [
    ("model_dump", _write_pydantic),
    ("__fields_set__", _write_pydantic_v1),
    ("__struct_fields__", _write_struct),
    ("__dataclass_fields__", _write_dataclass),
    ("__attrs_attrs__", _write_attrs),
    ("__fspath__", _write_path),
]
_BY_KIND: Final[List[Tuple[Any, Callable[[Any], Any]]]] = [
    (Mapping, dict),
    ((Set, Sequence, ValuesView), list),
]


def plain_throughout(value: Any) -> Any:
    """Return a value with all that JSON has no form for converted, keys of dicts too.

    Raises what is wrong with it, with the path to it. It costs several times what the encoder's own pass does.
    """
    return _Pass().value(value, "")


class _Pass:
    """One pass over a value, to convert it and to say where what can't be is."""

    def __init__(self) -> None:
        self._inside: List[Any] = []  # the containers around, so that a circle is found

    def value(self, value: Any, path: str) -> Any:
        kind = type(value)
        if kind is str:
            return _text(value, path)
        if isinstance(value, float):
            if value != value or value in (float("inf"), float("-inf")):
                raise ValueError(
                    f"the result holds NaN or Infinity{_at(path)}, which JSON doesn't have; return None instead"
                )
            return value
        if value is None or isinstance(value, (int, str)):
            return value
        if any(value is container for container in self._inside):
            raise ValueError("Circular reference detected" + _at(path))
        self._inside.append(value)
        try:
            return self._container(value, path)
        finally:
            self._inside.pop()

    def _container(self, value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return {_key(key, path): self.value(item, _under(path, key)) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item, f"{path}[{i}]") for i, item in enumerate(value)]
        try:
            converted = plain(value)
        except TypeError:
            cls: Any = type(value)
            if _writer(cls) is not None:
                raise
            raise TypeError(f"the result holds a {cls.__module__}.{cls.__qualname__}{_at(path)}, {_ADVICE}") from None
        return self.value(converted, path)


def _text(value: str, path: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"the result holds text with a lone surrogate{_at(path)}, which UTF-8 doesn't have") from None
    return value


def _key(key: Any, path: str) -> Any:
    """Return a dict's key as JSON has it: text, or what the encoder makes text of."""
    if key is None or isinstance(key, (str, int, float)):
        return key
    cls: Any = type(key)
    if _writer(cls) is not None:
        written = plain(key)
        if isinstance(written, (str, int, float)):
            return written
    raise TypeError(
        f"keys must be str, int, float, bool or None, or of a type that is written as one, not "
        f"{cls.__qualname__}{_at(path)}"
    )


def _under(path: str, key: Any) -> str:
    text = str(key) if isinstance(key, (str, int)) else type(key).__qualname__
    return f"{path}.{text[:100]}" if path else text[:100]


def _at(path: str) -> str:
    return f" at {path[:200]}" if path else ""


# Reading: each takes the annotated class and text, and raises ValueError, OverflowError or ArithmeticError.

_TIME: Final = r"(\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?: ?([Zz]|[+-]\d\d(?::?\d\d)?))?"
_DATE: Final = r"(\d{4})-(\d\d)-(\d\d)"
_DATE_PATTERN: Final = re.compile(_DATE, re.ASCII)
_TIME_PATTERN: Final = re.compile(_TIME, re.ASCII)
_DATETIME_PATTERN: Final = re.compile(f"{_DATE}[Tt ]{_TIME}", re.ASCII)
_DURATION_PATTERN: Final = re.compile(
    r"([+-]?)P(?=.)(?:(\d+)W)?(?:(\d+)D)?(?:T(?=.)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:[.,](\d{1,9}))?S)?)?", re.ASCII
)
_DECIMAL_PATTERN: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_BASE64_PATTERN: Final = re.compile(r"[A-Za-z0-9+/]*={0,2}")


class Reader:
    """How values of one type are read from JSON: of which of its types, and what the caller is told to send."""

    def __init__(self, read: Callable[[Any, Any], Any], expected: str, takes: Tuple[type, ...] = (str,)) -> None:
        self.read = read
        self.expected = expected
        self.takes = takes


def reader(cls: type) -> Optional[Reader]:
    """Return how values of an annotated class are read; None: it is none of the table's."""
    found = _READERS.get((cls.__module__, cls.__qualname__))
    if found is None:
        path = getattr(sys.modules.get("pathlib"), "PurePath", None)  # None: of the user's module of that name
        if isinstance(path, type) and issubclass(cls, path):
            return _PATH
    return found


def _match(pattern: re.Pattern[str], text: str) -> Tuple[Any, ...]:
    found = pattern.fullmatch(text)
    if found is None:
        raise ValueError
    return found.groups()


def _microseconds(digits: Optional[str]) -> int:
    return int((digits or "")[:6].ljust(6, "0"))


def _zone(cls: type, text: Optional[str]) -> Any:
    datetime = sys.modules[cls.__module__]
    if text is None:
        return None
    if text in "Zz":
        return datetime.timezone.utc
    offset = datetime.timedelta(hours=int(text[1:3]), minutes=int(text[3:].lstrip(":") or 0))
    return datetime.timezone(-offset if text[0] == "-" else offset)


def _read_datetime(cls: Any, text: str) -> Any:
    year, month, day, hour, minute, second, fraction, zone = _match(_DATETIME_PATTERN, text)
    clock = (int(hour), int(minute), int(second or 0), _microseconds(fraction))
    return cls(int(year), int(month), int(day), *clock, tzinfo=_zone(cls, zone))


def _read_date(cls: Any, text: str) -> Any:
    return cls(*map(int, _match(_DATE_PATTERN, text)))


def _read_time(cls: Any, text: str) -> Any:
    hour, minute, second, fraction, zone = _match(_TIME_PATTERN, text)
    return cls(int(hour), int(minute), int(second or 0), _microseconds(fraction), tzinfo=_zone(cls, zone))


def _read_duration(cls: Any, value: Any) -> Any:
    if type(value) is not str:
        return cls(seconds=value)
    sign, weeks, days, hours, minutes, seconds, fraction = _match(_DURATION_PATTERN, value)
    whole = {"weeks": weeks, "days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
    length = cls(**{unit: int(n or 0) for unit, n in whole.items()}, microseconds=_microseconds(fraction))
    return -length if sign == "-" else length


def _read_decimal(cls: Any, value: Any) -> Any:
    if type(value) is int:
        return cls(value)
    text = value if type(value) is str else repr(value)  # as it came: 0.1, not its nearest binary fraction
    _match(_DECIMAL_PATTERN, text)
    return cls(text)


def _read_bytes(cls: Any, text: str) -> Any:
    _match(_BASE64_PATTERN, text)
    if len(text) % 4:
        raise ValueError
    return cls(a2b_base64(text))


def _read_text(cls: Any, text: str) -> Any:
    return cls(text)


_PATH: Final = Reader(_read_text, "a path as text")
_READERS: Final[Dict[Tuple[str, str], Reader]] = {
    ("datetime", "datetime"): Reader(_read_datetime, "a date and time like 2026-01-31T09:30:00Z"),
    ("datetime", "date"): Reader(_read_date, "a date like 2026-01-31"),
    ("datetime", "time"): Reader(_read_time, "a time like 09:30:00"),
    ("datetime", "timedelta"): Reader(
        _read_duration, "a duration like PT1H30M, or a number of seconds", (str, int, float)
    ),
    ("uuid", "UUID"): Reader(_read_text, "a UUID"),
    ("decimal", "Decimal"): Reader(_read_decimal, "a decimal number, as text or a number", (str, int, float)),
    ("builtins", "bytes"): Reader(_read_bytes, "bytes in base64"),
    ("builtins", "bytearray"): Reader(_read_bytes, "bytes in base64"),
    **{("ipaddress", name): Reader(_read_text, f"an {name[:4]} {name[4:].lower()}") for name in _ADDRESSES},
}


def json_form(value: Any) -> Any:
    """Return the JSON of an enum member's or a Literal's value, to compare what comes with."""
    while isinstance(value, Enum):
        value = value.value
    if value is None or type(value) in (str, int, float, bool):
        return value
    try:
        return plain_throughout(value)
    except (TypeError, ValueError):
        return value
