"""A batch: one request with the arguments of many calls of a command, and an output for each, in order."""

from __future__ import annotations

from typing import Any, Callable, Dict, Final, List

from poolworker import codec
from poolworker.errors import Failure, invalid_payload

_COUNTED: Final = (b"", b"caller_error", b"upstream_error", b"python_error")  # the worst last


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


class Outputs:
    """What the calls of a batch have come to, in order."""

    def __init__(self, bounded: Callable[[int], None]) -> None:
        """Bounded raises when so many bytes are too many for the answer."""
        self._bounded = bounded
        self._answer = bytearray(b'{"outputs":[')  # one buffer: a result on its own can hold far more than its length
        self._empty = len(self._answer)
        self._worst = 0

    def succeeded(self, result: bytes) -> None:
        """Add the output of an input whose call returned; result is JSON. Raises Failure."""
        self._add(b'{"result":', result)

    def failed(self, failure: Failure) -> None:
        """Add the output of an input whose call failed. Raises Failure."""
        self._worst = max(self._worst, _rank(failure))
        self._add(b'{"error":', failure.encode())

    def encode(self) -> bytes:
        """Encode the answer to the batch."""
        return b"".join((self._answer, b"]}"))

    def _add(self, head: bytes, body: bytes) -> None:
        answer = self._answer
        if len(answer) > self._empty:
            answer += b","
        answer += head
        answer += body
        answer += b"}"
        self._bounded(len(answer) + 2)

    def worst(self) -> bytes:
        """Return the type of failure that the batch as a whole counts as; empty: all calls returned."""
        return _COUNTED[self._worst]


def _rank(failure: Failure) -> int:
    if failure.category == "request_error":
        return _COUNTED.index(b"caller_error")
    return _COUNTED.index(b"upstream_error" if failure.type == "upstream_error" else b"python_error")
