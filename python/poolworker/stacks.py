"""Where the handlers are at this moment, for the supervisor to look up when one takes too long.

At SIGNAL, faulthandler writes the stack of the main thread into a pipe: in C, so also inside of a C loop or of a call
that blocks. Then, if Python gets to run, follows what that stack doesn't show: a block for each request whose handler
is a suspended task, or in a thread of its own, and END. There are names of files and functions and numbers of lines,
never values.

The pipe has both its ends in one descriptor, which the supervisor opens through /proc when it wants a stack: it keeps
nothing open for that, a write finds a reader always, and one that finds no room is dropped.
"""

from __future__ import annotations

import faulthandler
import sys
from contextlib import suppress
from os import O_CLOEXEC, O_NONBLOCK, O_RDWR, close, fstat, pipe, register_at_fork, sep, write
from os import open as open_file
from os.path import abspath, dirname
from signal import SIG_DFL, getsignal, signal
from types import FrameType
from typing import Any, Callable, Dict, Final, Iterable, Iterator, List, Optional, Tuple

from poolworker.process import private
from poolworker.standard import HOME

_register: Final = getattr(faulthandler, "register", None)
_unregister: Final = getattr(faulthandler, "unregister", None)

SIGNAL: Final = 60
"""A real-time signal that nobody is known to use. A module that has taken it keeps it, and its stacks aren't told."""

END: Final = "End of stacks"

Step = Tuple[FrameType, int]
"""A frame and the line that it is at."""

Running = Callable[[], Iterable[Tuple[int, List[Step]]]]
"""Requests that the main thread's stack doesn't show, by id, with their own stacks: the most recent call first."""

_MAX_STEPS: Final = 100  # of one stack, as in faulthandler
_MAX_REPORT: Final = 32 << 10  # bytes: half of what a pipe holds


class Stacks:
    """Answers to SIGNAL, from offer on."""

    def __init__(self, running: Running) -> None:
        """Do nothing before offer."""
        self._running = running
        self._fd = -1

    def offer(self) -> Optional[Dict[str, Any]]:
        """Get ready, and return what the supervisor has to know. None: this Python, or the module, doesn't allow it."""
        if _register is None or getsignal(SIGNAL) is not SIG_DFL:
            return None
        try:
            self._fd = _open_pipe()
        except OSError:  # no /proc, or no descriptor left
            return None
        signal(SIGNAL, self._report)
        _register(SIGNAL, self._fd, all_threads=False, chain=True)
        register_at_fork(after_in_child=self._withdraw)
        return {
            "signal": SIGNAL,
            "fd": self._fd,
            "pipe": fstat(self._fd).st_ino,
            "own": dirname(abspath(__file__)) + sep,
            "library": HOME + sep,
        }

    def forget(self) -> None:
        """Tell of no requests any more, and let go of them: what runs at forks knows this object for ever."""
        self._running = tuple

    def _report(self, _signum: int, _frame: Optional[FrameType]) -> None:
        """Add what faulthandler doesn't see. It runs in the midst of a user's code, and raises nothing there."""
        with suppress(Exception):
            text = ""
            for id, stack in self._running():
                block = f"Request {id} (most recent call first):\n" + "".join(map(_line, stack))
                if len(text) + len(block) <= _MAX_REPORT:
                    text += block
            write(self._fd, (text + END + "\n").encode("ascii", "backslashreplace"))

    def _withdraw(self) -> None:
        """In a forked child of the user's: it isn't a worker."""
        if _unregister is not None:
            _unregister(SIGNAL)
        if getsignal(SIGNAL) == self._report:
            signal(SIGNAL, SIG_DFL)
        close(self._fd)


def of_thread(ident: int) -> List[Step]:
    """Return the stack of a thread; nothing when it has ended."""
    stack: List[Step] = []
    frame = sys._current_frames().get(ident)
    while frame is not None and len(stack) < _MAX_STEPS:
        stack.append((frame, frame.f_lineno))
        frame = frame.f_back
    return stack


def of_coroutine(coroutine: Any) -> List[Step]:
    """Return the stack of a suspended coroutine: itself, what it awaits, and so on up to what isn't Python's."""
    stack = [(frame, frame.f_lineno) for frame in _awaited(coroutine)]
    stack.reverse()
    return stack[:_MAX_STEPS]


def _awaited(link: Any) -> Iterator[FrameType]:
    for _ in range(sys.getrecursionlimit()):
        for kind, following in (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await")):
            frame = getattr(link, kind, None)
            if frame is not None:
                yield frame
                link = getattr(link, following)
                break
        else:
            return


def _line(step: Step) -> str:
    frame, line = step
    return f'  File "{frame.f_code.co_filename}", line {line} in {frame.f_code.co_name}\n'


def _open_pipe() -> int:
    """Return a descriptor that is both ends of a pipe. Raises OSError."""
    ends = pipe()
    try:
        both = open_file(f"/proc/self/fd/{ends[1]}", O_RDWR | O_NONBLOCK | O_CLOEXEC)
    finally:
        for fd in ends:
            close(fd)
    return private(both)
