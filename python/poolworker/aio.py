"""The event loop of async handlers: one for the life of the worker, so that clients opened in it stay usable."""

from __future__ import annotations

from asyncio import (
    AbstractEventLoop,
    BaseEventLoop,
    CancelledError,
    Task,
    all_tasks,
    gather,
    new_event_loop,
    set_event_loop,
)
from contextlib import suppress
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE
from typing import Any, Coroutine, Final, List, Optional

from poolworker.errors import summary
from poolworker.process import Signals, private
from poolworker.taken import close, monotonic, pipe, read, set_blocking, set_wakeup_fd

_IN_COROUTINE: Final = CO_COROUTINE | CO_ASYNC_GENERATOR


class Loop:
    """It runs only while a handler does: a task left behind goes on with the next request.

    A signal reaches a handler wherever it is. Python's own signal handlers run between two steps of Python code, so one
    that arrives just before the loop goes to sleep would wait for the loop to wake, and what they raise inside of a
    finaliser is dropped. So a signal also wakes the loop through a descriptor, and cancels the handler's task when what
    it raised didn't get there.

    Handlers that aren't async have it as their current loop, and may run it. They can't end it: see _Guard.
    """

    def __init__(self, signals: Signals) -> None:
        """Make the loop, for this thread."""
        self._signals = signals
        self._loop = new_event_loop()
        self._guard = _Guard(self._loop)
        self._woken, self._waker = map(private, pipe())
        for end in (self._woken, self._waker):
            set_blocking(end, False)
        self._loop.add_reader(self._woken, self._drain)

    @property
    def task(self) -> Optional[Task[Any]]:
        """Of the handler that runs."""
        return self._guard.task

    def usable(self) -> bool:
        """Report whether the loop can run. One that was closed in spite of its guard ends the worker, in order."""
        if self._loop.is_closed():
            self._signals.retire("the module has closed the event loop of the worker")
            return False
        return True

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run one handler to its end. What interrupts it (SIGINT, SIGTERM) cancels it first."""
        set_event_loop(self._loop)  # a handler may have set another, or none: asyncio.run() does
        task = self._guard.task = self._loop.create_task(coroutine)
        signals = self._signals
        raised: List[BaseException] = []

        def cancel(error: BaseException) -> None:
            raised.append(error)
            self._loop.call_soon_threadsafe(cancel_unless_arrived, error)

        def cancel_unless_arrived(error: BaseException) -> None:
            if not _arrived(error):
                signals.over = True
                task.cancel()

        signals.over = False
        signals.cancel = cancel
        before = set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        try:
            return self._loop.run_until_complete(task)
        except BaseException as error:
            if not task.done():
                signals.over = True
                if not raised:  # else the loop is about to
                    task.cancel()
                self._finish(task)
            if raised and isinstance(error, CancelledError):
                raise raised[0] from None
            raise
        finally:
            self._guard.task = signals.cancel = None
            set_wakeup_fd(before)

    def close(self) -> None:
        """Cancel the tasks left behind, let them and the async generators finish, close the loop."""
        if not self._loop.is_closed():
            left = all_tasks(self._loop)
            for task in left:
                task.cancel()
            if left:
                self._loop.run_until_complete(gather(*left, return_exceptions=True))
            self._loop.run_until_complete(self._guard.shutdown_asyncgens())
            self._loop.remove_reader(self._woken)
            set_event_loop(None)
            self._guard.close()
        close(self._woken)
        close(self._waker)

    def _finish(self, task: Task[Any]) -> None:
        """Let a task that is cancelled come to its end. A loop that can't run any more ends the worker, in order."""
        try:
            self._loop.run_until_complete(gather(task, return_exceptions=True))
        except Exception as error:  # noqa: BLE001 - whatever it is, it isn't the task's
            self._signals.retire(f"the event loop of the worker can't go on: {summary(error)}")

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            read(self._woken, 4096)


class _Guard:
    """Keeps a loop from handlers that end it, as code does that made it: what they call then has no effect."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.task: Optional[Task[Any]] = None
        self.close = loop.close
        self.shutdown_asyncgens = loop.shutdown_asyncgens
        self._stop = loop.stop
        self._loop = loop
        instead: dict[str, Any] = {
            "close": _ignore,
            "stop": self._stop_own,
            "shutdown_asyncgens": _ignore_async,
            "shutdown_default_executor": _ignore_async,
        }
        if isinstance(loop, BaseEventLoop):
            instead["time"] = monotonic  # it would ask the module time each time
        with suppress(TypeError):  # one without attributes of its own
            vars(loop).update(instead)

    def _stop_own(self) -> None:
        """Stop the loop at the end of what it runs, also of what a handler that isn't async has it run."""
        if self._loop.is_running() and (self.task is None or self.task.done()):
            self._stop()


def _ignore() -> None: ...


async def _ignore_async(timeout: Optional[float] = None) -> None:
    del timeout


def _arrived(error: BaseException) -> bool:
    """Whether an exception was raised into a handler, and not into the loop or a finaliser."""
    link = error.__traceback__
    while link is not None:
        if link.tb_frame.f_code.co_flags & _IN_COROUTINE:
            return True
        link = link.tb_next
    return False
