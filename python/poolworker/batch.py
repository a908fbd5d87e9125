"""A batch: one request with the arguments of many calls of a command, and an output for each, in order."""

from __future__ import annotations

from typing import Any, Dict, List

from poolworker import codec
from poolworker.errors import Failure, invalid_payload


def inputs_of(payload: bytes) -> List[Any]:
    """Read `{"inputs": [..]}`. Raises Failure(invalid_payload) for anything else; what the inputs are is left open."""
    body = codec.decode_arguments(payload)
    inputs = body.get("inputs")
    if type(inputs) is not list or len(body) != 1:
        raise invalid_payload('a batch is a JSON object with "inputs" alone, an array of objects of arguments')
    return inputs


def arguments_of(value: Any, fixed: Dict[str, Any]) -> Dict[str, Any]:
    """Return one input's arguments; fixed stands where it has none. Raises Failure(invalid_payload)."""
    if type(value) is not dict:
        raise invalid_payload("an input of a batch must be a JSON object of arguments")
    return {**fixed, **value}


def succeeded(result: bytes) -> bytes:
    """Encode the output of an input whose call returned; result is JSON."""
    return b'{"result":' + result + b"}"


def failed(failure: Failure) -> bytes:
    """Encode the output of an input whose call failed."""
    return b'{"error":' + failure.encode() + b"}"


def encode(outputs: List[bytes]) -> bytes:
    """Encode the answer to the batch."""
    return b'{"outputs":[' + b",".join(outputs) + b"]}"
