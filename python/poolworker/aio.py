"""The event loop of async handlers: one for the life of the worker, so that clients opened in it stay usable."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import signal
import socket
from typing import Any, Coroutine, List, Optional

from poolworker.process import Signals


class Loop:
    """It runs only while a handler does: a task left behind goes on with the next request.

    A signal reaches a handler wherever it is. Python's own signal handlers run between two steps of Python code, so one
    that arrives just before the loop goes to sleep would wait for the loop to wake, and what they raise inside of a
    finaliser is dropped. So a signal also wakes the loop through a descriptor, and cancels the handler's task when what
    it raised didn't get there.
    """

    def __init__(self) -> None:
        """Make the loop, for this thread."""
        self._loop = asyncio.new_event_loop()
        self.task: Optional[asyncio.Task[Any]] = None
        """Of the handler that runs."""
        asyncio.set_event_loop(self._loop)
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self._loop.add_reader(self._woken, self._drain)

    def run(self, coroutine: Coroutine[Any, Any, Any], signals: Signals) -> Any:
        """Run one handler to its end. What interrupts it (SIGINT, SIGTERM) cancels it first."""
        task = self.task = self._loop.create_task(coroutine)
        raised: List[BaseException] = []

        def cancel(error: BaseException) -> None:
            raised.append(error)
            self._loop.call_soon_threadsafe(cancel_unless_arrived, error)

        def cancel_unless_arrived(error: BaseException) -> None:
            if not _arrived(error):
                task.cancel()

        signals.cancel = cancel
        before = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        try:
            return self._loop.run_until_complete(task)
        except BaseException as error:
            if not task.done():
                if not raised:  # else the loop is about to
                    task.cancel()
                self._loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
            if raised and isinstance(error, asyncio.CancelledError):
                raise raised[0] from None
            raise
        finally:
            self.task = signals.cancel = None
            signal.set_wakeup_fd(before)

    def close(self) -> None:
        """Cancel the tasks left behind, let them and the async generators finish, close the loop."""
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        if left:
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.remove_reader(self._woken)
        asyncio.set_event_loop(None)
        self._loop.close()
        self._woken.close()
        self._waker.close()

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)


def _arrived(error: BaseException) -> bool:
    """Whether an exception was raised into a handler, and not into the loop or a finaliser."""
    link = error.__traceback__
    while link is not None:
        if link.tb_frame.f_code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
            return True
        link = link.tb_next
    return False
