"""What makes a Python process a worker: private protocol descriptors, standard streams, signals, its parent's death."""

from __future__ import annotations

import faulthandler
import fcntl
import os
import signal
import sys
from types import FrameType
from typing import Callable, Final, Optional, TextIO

from poolworker.frames import Channel
from poolworker.output import RecordWriter

TERMINATED: Final = 143
"""Exit code after SIGTERM (128 + 15), as a shell would show it."""

EXIT_GRACE_SECONDS: Final = 5
"""How long atexit hooks and threads that aren't daemons may hold up an exit; then SIGALRM ends the process."""

_PRIVATE_FD: Final = 512  # above what user code opens by itself, below the usual limit of 1024
_PR_SET_PDEATHSIG: Final = 1


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
    os.register_at_fork(after_in_child=channel.close)
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
        parent = os.getppid()
    try:
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (ImportError, OSError, AttributeError, TypeError):
        return False
    if os.getppid() != parent:
        os._exit(0)
    return True


def mark(variable: str, value: str) -> bool:
    """Set an environment variable so that /proc shows it too; returns whether it could.

    /proc/PID/environ is the memory that the process was started with, and a forked process still shows its parent's.
    So the text is overwritten where it stands, and the new one must not be longer.
    """
    try:
        import ctypes

        getenv = ctypes.CDLL(None).getenv
        getenv.argtypes, getenv.restype = [ctypes.c_char_p], ctypes.c_void_p
        address = getenv(variable.encode())
        size = len(ctypes.string_at(address)) if address else 0
        if len(value) > size:
            return False
        if address:
            ctypes.memmove(address, value.encode().ljust(size, b"\0"), size)
    except (ImportError, OSError, AttributeError, TypeError):
        return False
    if os.environ.get(variable) != value:  # setting it moves it, and it can be overwritten only where it was at first
        os.environ[variable] = value
    return True


def limit_exit() -> None:
    """Bound what is left of the exit: the kernel ends the process after EXIT_GRACE_SECONDS, whatever hangs."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(EXIT_GRACE_SECONDS)


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
        """True after SIGTERM."""
        self.cancel: Optional[Callable[[BaseException], None]] = None
        """Told of what a signal raises, before it is raised: where nothing may be raised, it would be lost."""

    def install(self) -> None:
        """Take both signals, but none that the user's module has taken in the process that this was forked from.

        A module that is imported later may take them back.
        """
        if signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, signal.SIG_IGN):
            signal.signal(signal.SIGTERM, self._terminate)
        if signal.getsignal(signal.SIGINT) in (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler):
            signal.signal(signal.SIGINT, self._interrupt)
        os.register_at_fork(after_in_child=self._give_back)

    def _terminate(self, _signum: int, _frame: Optional[FrameType]) -> None:
        self.terminating = True
        self._raise(SystemExit(TERMINATED))

    def _give_back(self) -> None:
        """Let a forked child of the user's end as any process does, where its module didn't decide otherwise."""
        if signal.getsignal(signal.SIGTERM) == self._terminate:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) == self._interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)

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
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _PRIVATE_FD)
    except OSError:
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(fd)
    return moved


def redirect_standard_streams() -> None:
    """Point fd 0 at /dev/null and fd 1 at fd 2; print() writes line by line, and a fatal signal leaves a stack."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    try:
        os.fstat(2)
    except OSError:  # started without a stderr
        os.dup2(null, 2)
    os.dup2(2, 1)
    if null > 2:
        os.close(null)
    else:  # started without some of the three
        os.set_inheritable(null, True)
    sys.stdout = _line_writer(1)
    sys.stderr = _line_writer(2)
    faulthandler.enable(2)  # SIGSEGV and the like leave a stack on stderr; the exit status stays the signal


def _line_writer(fd: int) -> TextIO:
    """Text to fd line by line: a killed handler's last line is in the log, and no character makes print() raise."""
    return RecordWriter(open(fd, "wb", closefd=False))
