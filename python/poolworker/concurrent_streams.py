"""The outlet of a stream where a worker serves several requests at once."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from threading import Condition
from typing import Callable, Final, Optional

from poolworker import frames
from poolworker.streams import Abandoned


class ConcurrentOutlet:
    """The items of one stream, sent from a task of the loop or from a thread, each with this stream's own credit."""

    def __init__(self, loop: AbstractEventLoop, write: Callable[[bytes], None]) -> None:
        """Write sends a chunk; it is called on the loop, in order."""
        self._loop: Final = loop
        self._write: Final = write
        self._sent = 0
        self._changed: Final = Condition()
        self._credit = frames.STREAM_WINDOW  # guarded by _changed
        self._abandoned = False  # guarded by _changed
        self._waiter: Optional[Future[None]] = None  # the loop's own

    def grant(self, credit: int) -> None:
        """Add credit that has come. On the loop."""
        with self._changed:
            self._credit += credit
            self._changed.notify()
        self._wake()

    def abandon(self) -> None:
        """Have what is still to be sent raise Abandoned. On the loop."""
        with self._changed:
            self._abandoned = True
            self._changed.notify()
        self._wake()

    async def put(self, chunk: bytes) -> None:
        """Send an encoded item as soon as there is credit, from the loop. Raises Abandoned."""
        while not self._take(chunk):
            self._waiter = self._loop.create_future()
            await self._waiter
        self._write(chunk)

    def put_from_thread(self, chunk: bytes) -> None:
        """Send an encoded item as soon as there is credit, from any other thread. Raises Abandoned."""
        with self._changed:
            while not self._take(chunk):
                self._changed.wait()
        self._loop.call_soon_threadsafe(self._write, chunk)

    def total(self) -> bytes:
        """Return the payload of the stream's Result: how many chunks there were."""
        return b"%d" % self._sent

    def _take(self, chunk: bytes) -> bool:
        """Take the credit that a chunk costs; False: there is none."""
        with self._changed:
            if self._abandoned:
                raise Abandoned
            if self._credit <= 0:
                return False
            self._credit -= frames.chunk_cost(len(chunk))
            self._sent += 1
            return True

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
