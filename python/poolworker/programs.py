"""Programs: arguments that stay the same from call to call, and that the supervisor sends once."""

from __future__ import annotations

from functools import partial
from marshal import dumps, loads
from typing import Any, Callable, Dict, Final, Union

from poolworker import codec
from poolworker.errors import Failure, invalid_payload

_TOO_DEEP: Final = "the program's inputs are nested deeper than Python can copy them"


class Programs:
    """What this process holds, by hash. The supervisor says what is kept, and for how long."""

    def __init__(self) -> None:
        self._by_hash: Dict[bytes, Union[bytes, Failure]] = {}

    def keep(self, hash: bytes, body: bytes) -> None:
        """Hold a program. One that can't be decoded is held as that failure, which each of its calls gets.

        Decoded arguments are kept in marshal's form: reading that gives each call objects of its own, several times
        faster than copy.deepcopy and faster than decoding the JSON again.
        """
        try:
            self._by_hash[hash] = dumps(codec.decode_arguments(body))
        except Failure as failure:
            self._by_hash[hash] = invalid_payload(f"the program's inputs: {failure.message}")
        except ValueError:
            self._by_hash[hash] = invalid_payload(_TOO_DEEP)

    def drop(self, hash: bytes) -> None:
        """Let go of a program. One that isn't held is fine."""
        self._by_hash.pop(hash, None)

    def holds(self, hash: bytes) -> bool:
        """Whether keep had that hash, and drop hadn't."""
        return hash in self._by_hash

    def inputs(self, hash: bytes) -> Dict[str, Any]:
        """Return the arguments of a program that is held; they are the caller's to change.

        Raises Failure(invalid_payload) when keep found something wrong.
        """
        return _inputs(self._by_hash[hash])

    def source(self, hash: bytes) -> Callable[[], Dict[str, Any]]:
        """Return what makes these arguments anew each time, also once the program is dropped."""
        return partial(_inputs, self._by_hash[hash])


def _inputs(held: Union[bytes, Failure]) -> Dict[str, Any]:
    if isinstance(held, Failure):
        raise invalid_payload(held.message)
    arguments: Dict[str, Any] = loads(held)  # noqa: S302 - written by keep
    return arguments
