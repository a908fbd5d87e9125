"""Streams: a handler that yields, and where what it yields goes: one by one to a caller that wants that, or in a list.

A chunk is sent only with credit for it (docs/protocol.md). Without any the handler stays at its `yield`, so that a
reader who is slow slows down its own stream and holds up nobody else.
"""

from __future__ import annotations

from typing import Any, AsyncIterator, Awaitable, Callable, Final, FrozenSet, Iterator, Union

from poolworker import frames

PLAIN: Final[FrozenSet[type]] = frozenset({dict, list, str, int, float, bool, tuple, bytes, type(None)})
"""Types of most results, which are neither coroutine nor stream: to find that out of a type costs 2 µs."""


class Abandoned(Exception):
    """Nobody takes what the stream has to send: its caller has left, or the supervisor has."""


def is_stream(value: Any) -> bool:
    """Whether a handler's result is to be taken item by item: a generator, or any other iterator."""
    kind = type(value)
    return hasattr(kind, "__next__") or hasattr(kind, "__anext__")


def is_async(value: Any) -> bool:
    """Whether a stream's items have to be awaited."""
    return hasattr(type(value), "__anext__")


def drain(items: Iterator[Any], send: Callable[[Any], None]) -> None:
    """Send all items. Whatever ends it, the generator is closed and its `finally` blocks have run."""
    try:
        for item in items:
            send(item)
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()


async def drain_async(items: AsyncIterator[Any], send: Callable[[Any], Union[Awaitable[None], None]]) -> None:
    """Send all items as drain does, in one task, so that a generator can hold a timeout or a task group."""
    try:
        async for item in items:
            sending = send(item)
            if sending is not None:
                await sending
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()


class Collector:
    """The items of a stream that is wanted whole: one JSON list, which fails as soon as it is over its limit."""

    def __init__(self, encode: Callable[[Any], bytes], bounded: Callable[[int], None]) -> None:
        """Encode makes an item's JSON; bounded raises when so many bytes are too many."""
        self._encode = encode
        self._bounded = bounded
        self._list = bytearray(b"[")  # one buffer: an item on its own can hold far more than its length

    def send(self, item: Any) -> None:
        """Add an item. Raises Failure."""
        encoded = self._encode(item)
        gathered = self._list
        self._bounded(len(gathered) + len(encoded) + 1 + (len(gathered) > 1))
        if len(gathered) > 1:
            gathered += b","
        gathered += encoded

    def encoded(self) -> bytes:
        """Return the list."""
        return b"".join((self._list, b"]"))


class Outlet:
    """The items of a stream that is wanted one by one, where a worker serves nothing else meanwhile."""

    def __init__(self, write: Callable[[bytes], None], more: Callable[[], int]) -> None:
        """Write sends a chunk; more waits for credit and returns it, or raises Abandoned."""
        self._write = write
        self._more = more
        self._credit = frames.STREAM_WINDOW
        self._sent = 0

    def put(self, chunk: bytes) -> None:
        """Send an encoded item, as soon as there is credit."""
        while self._credit <= 0:
            self._credit += self._more()
        self._credit -= frames.chunk_cost(len(chunk))
        self._write(chunk)
        self._sent += 1

    def total(self) -> bytes:
        """Return the payload of the stream's Result: how many chunks there were."""
        return b"%d" % self._sent
