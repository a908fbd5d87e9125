"""JSON in, JSON out, strictly: UTF-8 only, no NaN or Infinity, an object of arguments, plain results."""

from __future__ import annotations

from typing import Any, Dict, Final

from poolworker import codecs
from poolworker.errors import Failure, invalid_payload, kind

problem = ""
"""Why the codec that the environment asks for can't be had; "": it can."""

# Imported here, before the user's directories are on sys.path: a file of theirs can't take its place.
try:
    _codec = codecs.choose()
except ValueError as error:
    _codec, problem = codecs.STANDARD, str(error)

name: Final = _codec.name
"""Which codec this process uses."""

_decode: Final = _codec.decode
_encode: Final = _codec.encode


def decode_arguments(payload: bytes) -> Dict[str, Any]:
    """Decode a request's payload to keyword arguments. Raises Failure(invalid_payload) for anything else."""
    try:
        arguments = _decode(payload)
    except UnicodeDecodeError as error:
        raise invalid_payload(f"the payload isn't UTF-8: {error.reason} at byte {error.start}") from None
    except ValueError as error:
        raise invalid_payload(f"the payload isn't JSON: {error}") from None
    except RecursionError:
        raise invalid_payload("the payload is nested deeper than Python's JSON decoder goes") from None
    except MemoryError:
        raise Failure(
            "communication_error", "python_error", "MemoryError: too little memory is left to read the arguments",
            exception="MemoryError", traceback="",
        ) from None  # fmt: skip
    if type(arguments) is not dict:
        raise invalid_payload(
            f"the payload must be a JSON object of arguments, not {_json_type(arguments)}; "
            'send {"name": value}, or {} for none'
        )
    return arguments


def encode_result(command: str, value: Any) -> bytes:
    """Encode a handler's result. Raises Failure(python_error) that says what JSON can't hold."""
    try:
        return _encode(value)
    except RecursionError:
        reason: Exception = RecursionError("the result is nested deeper than Python's JSON encoder goes")
    except Exception as error:  # noqa: BLE001 - also what a user's property or __iter__ raises under the encoder
        reason = error
    raise Failure(
        "communication_error",
        "python_error",
        f"{kind(reason)}: {command}: {reason}",
        exception=kind(reason),
        traceback="",
    ) from None


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", str: "a string", list: "an array", int: "a number", float: "a number"}
    return names[type(value)]
