"""JSON codecs that give the same: the standard library's, and faster ones for all that they do exactly as it does.

What another codec refuses, or would do otherwise, is left to the standard library, so that values, errors and their
texts don't depend on what is installed. Two things may differ: how a number with a fraction is written (1e-05 or
0.00001), not its value; and how deep an argument may be nested: Python's limit can be less than orjson's 1,024 levels.
"""

from __future__ import annotations

from contextlib import suppress
from json import JSONDecoder, JSONEncoder
from marshal import dumps as marshalled
from os import environ
from typing import Any, Callable, Dict, Final, NamedTuple

from poolworker.conversions import plain, plain_throughout

VARIABLE: Final = "POOLWORKER_CODEC"
"""Environment variable that names a codec; unset or empty: the fastest that can be imported."""


class Codec(NamedTuple):
    """A way to read and write JSON. Both functions raise what the standard library's do."""

    name: str
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} isn't JSON")


_decode_text: Final = JSONDecoder(parse_constant=_refuse_constant).decode
_encode_text: Final = JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain).encode


def _decode(payload: bytes) -> Any:
    return _decode_text(payload.decode("utf-8"))


def _encode(value: Any) -> bytes:
    try:
        return _encode_text(value).encode("utf-8")
    except (TypeError, ValueError):  # a key, or what can't be written: then this says where it is
        return _encode_text(plain_throughout(value)).encode("utf-8")


STANDARD: Final = Codec("json", _decode, _encode)


def _orjson() -> Codec:
    """orjson, which reads integers beyond 64 bits as floats and writes more types than JSON has, and NaN as null."""
    import orjson  # type: ignore[import-not-found, unused-ignore]

    loads, dumps, describe = orjson.loads, orjson.dumps, marshalled

    def decode(payload: bytes) -> Any:
        # Of 19 digits in a row every 6th byte is at least 3 in a row. Most payloads have none and cost no more.
        if b"000" not in payload[::6].translate(_AS_ZEROS) or not _has_long_integer(payload):
            try:
                return loads(payload)
            except ValueError:
                pass
        return _decode(payload)

    def encode(value: Any) -> bytes:
        try:
            described = describe(value)  # refuses all but Python's own types, subclasses too
            data: bytes = dumps(value)
        except (TypeError, ValueError):
            return _encode(value)
        if b"null" in data and (b"\x7f" in described or b"\xff" in described) and not _is_finite(value):
            return _encode(value)
        return data

    return Codec("orjson", decode, encode)


_AS_ZEROS: Final = bytes.maketrans(b"123456789", b"0" * 9)


def _has_long_integer(payload: bytes) -> bool:
    """Whether there may be an integer that 64 bits can't hold: 20 digits, or 19 and a sign."""
    digits = payload.translate(_AS_ZEROS)
    return b"0" * 20 in digits or b"-" + b"0" * 19 in digits


def _is_finite(value: Any) -> bool:
    """Whether a value that marshal takes has neither NaN nor Infinity in it; some text makes it say no, too.

    As in `encode` above: a float that is neither has the byte 7F or FF at its end in marshal's usual form. In its first
    form floats are text behind their length.
    """
    text = marshalled(value, 1)
    return b"f\x03nan" not in text and b"f\x03inf" not in text and b"f\x04-inf" not in text


def _msgspec() -> Codec:
    """Msgspec's decoder. Its encoder writes sets, bytes and much else that JSON doesn't have, and NaN as null."""
    import msgspec  # type: ignore[import-not-found, unused-ignore]

    read = msgspec.json.Decoder().decode

    def decode(payload: bytes) -> Any:
        try:
            return read(payload)
        except Exception:  # noqa: BLE001 - the standard library says what is wrong, or reads it
            return _decode(payload)

    return Codec("msgspec", decode, _encode)


_FAST: Final[Dict[str, Callable[[], Codec]]] = {"orjson": _orjson, "msgspec": _msgspec}  # the faster first


def choose() -> Codec:
    """Return the codec that the environment names, else the fastest. Raises ValueError for one that can't be had."""
    name = environ.get(VARIABLE, "")
    if name:
        return load(name)
    for name in _FAST:
        with suppress(ValueError):
            return load(name)
    return STANDARD


def load(name: str) -> Codec:
    """Return the codec of that name. Raises ValueError that says why it can't be had."""
    if name == STANDARD.name:
        return STANDARD
    if name not in _FAST:
        raise ValueError(
            f"there is no codec {name!r}; use {', '.join([*_FAST, STANDARD.name])}, or none for the fastest"
        )
    try:
        codec = _FAST[name]()
        if not _agrees(codec):
            raise ValueError("it doesn't do as the standard library does")
    except Exception as error:  # noqa: BLE001 - also what a file of that name raises which is something else
        raise ValueError(f"the codec {name} can't be used: {type(error).__name__}: {error}") from None
    return codec


_SAMPLE: Final = '{"a":[1,-2.5,true,null,"é\\n"],"":{}}'.encode()
_LONG_INTEGERS: Final = b"[99999999999999999999,-9999999999999999999]"


def _agrees(codec: Codec) -> bool:
    """Whether a codec does as it must with this Python, in versions of both that nobody has tried yet."""
    for payload in (_SAMPLE, _LONG_INTEGERS):
        if repr(codec.decode(payload)) != repr(_decode(payload)):
            return False
    for number in ("nan", "inf", "-inf"):
        with suppress(ValueError):
            codec.encode([None, float(number)])
            return False
    return codec.encode(_decode(_SAMPLE)) == _SAMPLE
