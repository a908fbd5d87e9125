"""What makes a Python process a worker: private protocol descriptors, standard streams, signals, its parent's death."""

from __future__ import annotations

import sys
from contextlib import suppress
from faulthandler import enable
from fcntl import F_DUPFD_CLOEXEC, fcntl
from os import O_RDWR, _exit, close, devnull, dup2, fstat, getppid, register_at_fork, set_inheritable, write
from os import open as open_file
from signal import SIG_DFL, SIG_IGN, SIGALRM, SIGINT, SIGKILL, SIGTERM, alarm, default_int_handler, getsignal, signal
from types import FrameType
from typing import Callable, Final, Optional, TextIO

from poolworker.frames import Channel
from poolworker.libc import signal_at_parents_end
from poolworker.output import RecordWriter

TERMINATED: Final = 143
"""Exit code after SIGTERM (128 + 15), as a shell would show it."""

EXIT_GRACE_SECONDS: Final = 5
"""How long atexit hooks and threads that aren't daemons may hold up an exit; then SIGALRM ends the process."""

_PRIVATE_FD: Final = 512  # above what user code opens by itself, below the usual limit of 1024


def take_over(read_fd: int, write_fd: int) -> Channel:
    """Turn this process into a worker that talks over the two descriptors. Call once, first of all.

    Afterwards nothing but the returned channel reaches the pipes: print(), C code that writes to fd 1 and child
    processes all end up on stderr, fd 0 is /dev/null, and forked children have the channel closed.
    """
    die_with_parent()
    channel = open_channel(read_fd, write_fd)
    redirect_standard_streams()
    return channel


def open_channel(read_fd: int, write_fd: int) -> Channel:
    """Frames over the two descriptors, which user code and its children don't get to see."""
    channel = Channel(private(read_fd), private(write_fd))
    register_at_fork(after_in_child=channel.close)
    return channel


def die_with_parent(parent: Optional[int] = None) -> bool:
    """Ask the kernel for SIGKILL when the thread that started this process ends; returns whether it could be asked.

    parent: who that must be; by default whoever it is now. For an orphan, which got another parent, the kernel looks
    at the first thread of that one.

    A parent that died before the request took effect shows as a changed parent id. One that died even before this
    process could look at it shows as end of input on the first read. Where the kernel or the C library can't be
    asked (not Linux, no ctypes, a static interpreter), end of input is all there is: a worker then outlives a
    killed supervisor until its handler returns.
    """
    if parent is None:
        parent = getppid()
    if not signal_at_parents_end(SIGKILL):
        return False
    if getppid() != parent:
        _exit(0)
    return True


def limit_exit() -> None:
    """Bound what is left of the exit: the kernel ends the process after EXIT_GRACE_SECONDS, whatever hangs."""
    signal(SIGALRM, SIG_DFL)
    alarm(EXIT_GRACE_SECONDS)


class Signals:
    """SIGTERM and SIGINT, such that neither ever tears a frame that is being written.

    SIGTERM ends the process with exit code TERMINATED and runs `finally` blocks and atexit hooks; a handler that
    swallows the SystemExit only delays it to its own end. SIGINT interrupts a running handler with
    KeyboardInterrupt, once; between handlers it is ignored.
    """

    def __init__(self) -> None:
        self.interruptible = False
        """True while a handler runs and wasn't interrupted yet."""
        self.interrupted = False
        """True after SIGINT: whoever goes on to another handler by itself must not."""
        self.terminating = False
        """True after SIGTERM, and after retire."""
        self.broken = ""
        """Why the worker can't go on, though no signal came: user code broke what it runs on."""
        self.over = False
        """True when the event loop's task is cancelled by the worker itself, not by user code."""
        self.cancel: Optional[Callable[[BaseException], None]] = None
        """Told of what a signal raises, before it is raised: where nothing may be raised, it would be lost."""

    def install(self) -> None:
        """Take both signals, but none that the user's module has taken in the process that this was forked from.

        A module that is imported later may take them back.
        """
        if getsignal(SIGTERM) in (SIG_DFL, SIG_IGN):
            signal(SIGTERM, self._terminate)
        if getsignal(SIGINT) in (SIG_DFL, SIG_IGN, default_int_handler):
            signal(SIGINT, self._interrupt)
        register_at_fork(after_in_child=self._give_back)

    def retire(self, reason: str) -> None:
        """Have the worker end in order once the request that it serves is answered."""
        self.broken = self.broken or reason
        self.terminating = True

    def _terminate(self, _signum: int, _frame: Optional[FrameType]) -> None:
        self.terminating = True
        self._raise(SystemExit(TERMINATED))

    def _give_back(self) -> None:
        """Let a forked child of the user's end as any process does, where its module didn't decide otherwise."""
        if getsignal(SIGTERM) == self._terminate:
            signal(SIGTERM, SIG_DFL)
        if getsignal(SIGINT) == self._interrupt:
            signal(SIGINT, default_int_handler)

    def _interrupt(self, _signum: int, _frame: Optional[FrameType]) -> None:
        self.interrupted = True
        if self.interruptible:
            self.interruptible = False
            self._raise(KeyboardInterrupt())

    def _raise(self, error: BaseException) -> None:
        if self.cancel is not None:
            self.cancel(error)
        raise error


def private(fd: int) -> int:
    """Move fd to a high number, close-on-exec. A low limit on open files leaves it above the standard streams."""
    try:
        moved = fcntl(fd, F_DUPFD_CLOEXEC, _PRIVATE_FD)
    except OSError:
        moved = fcntl(fd, F_DUPFD_CLOEXEC, 10)
    close(fd)
    return moved


def tell(text: str) -> None:
    """Write a line of the worker's own to its log, whatever user code has made of sys.stderr."""
    with suppress(OSError):
        write(2, f"poolworker: {text}\n".encode("utf-8", "backslashreplace"))


def redirect_standard_streams() -> None:
    """Point fd 0 at /dev/null and fd 1 at fd 2; print() writes line by line, and a fatal signal leaves a stack."""
    null = open_file(devnull, O_RDWR)
    dup2(null, 0)
    try:
        fstat(2)
    except OSError:  # started without a stderr
        dup2(null, 2)
    dup2(2, 1)
    if null > 2:
        close(null)
    else:  # started without some of the three
        set_inheritable(null, True)
    sys.stdout = _line_writer(1)
    sys.stderr = _line_writer(2)
    enable(2)  # SIGSEGV and the like leave a stack on stderr; the exit status stays the signal


def _line_writer(fd: int) -> TextIO:
    """Text to fd line by line: a killed handler's last line is in the log, and no character makes print() raise."""
    return RecordWriter(open(fd, "wb", closefd=False))
