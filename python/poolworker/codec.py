"""JSON in, JSON out, strictly: UTF-8 only, no NaN or Infinity, an object of arguments, plain results."""

from __future__ import annotations

import json
import sys
from typing import Any, Dict, Final

from poolworker.errors import Failure, invalid_payload, kind


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} isn't JSON")


def _plain(value: Any) -> Dict[str, Any]:
    """What the encoder asks about a value that JSON doesn't have: a dataclass instance becomes its fields."""
    if hasattr(type(value), "__dataclass_fields__"):
        dataclasses = sys.modules["dataclasses"]  # the user's class imported it; the worker needn't
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(
        f"the result holds a {type(value).__module__}.{type(value).__qualname__}, which isn't JSON; "
        "return dict, list, str, int, float, bool, None or a dataclass"
    )


_decode: Final = json.JSONDecoder(parse_constant=_refuse_constant).decode
_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode


def decode_arguments(payload: bytes) -> Dict[str, Any]:
    """Decode a request's payload to keyword arguments. Raises Failure(invalid_payload) for anything else."""
    try:
        arguments = _decode(payload.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise invalid_payload(f"the payload isn't UTF-8: {error.reason} at byte {error.start}") from None
    except ValueError as error:
        raise invalid_payload(f"the payload isn't JSON: {error}") from None
    except RecursionError:
        raise invalid_payload("the payload is nested deeper than Python's JSON decoder goes") from None
    if type(arguments) is not dict:
        raise invalid_payload(
            f"the payload must be a JSON object of arguments, not {_json_type(arguments)}; "
            'send {"name": value}, or {} for none'
        )
    return arguments


def encode_result(command: str, value: Any) -> bytes:
    """Encode a handler's result. Raises Failure(python_error) that says what JSON can't hold."""
    try:
        return _encode(value).encode("utf-8")
    except UnicodeEncodeError:
        reason: Exception = ValueError("the result holds text with a lone surrogate, which UTF-8 doesn't have")
    except RecursionError:
        reason = RecursionError("the result is nested deeper than Python's JSON encoder goes")
    except ValueError as error:
        if "Out of range float" in str(error):
            error = ValueError("the result holds NaN or Infinity, which JSON doesn't have; return None instead")
        reason = error
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
