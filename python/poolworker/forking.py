"""Forking an orphan: a process whose parent is whoever adopts orphans."""

from __future__ import annotations

from contextlib import suppress
from os import _exit, close, fork, kill, pipe, read, setpgid, waitpid, write
from select import POLLIN, poll
from signal import SIGKILL
from time import monotonic
from typing import Final, Optional

PATIENCE: Final = 4.0
"""Seconds for a fork and the look before it: less than the supervisor has for them."""

_STARTED: Final = b"+"


class StuckError(Exception):
    """A forked process doesn't come out of the fork: code of the module's hangs that runs at each one."""


def fork_orphan(since: float) -> int:
    """Fork a process that isn't this one's child; returns its pid here, and 0 in it. Raises OSError or StuckError.

    It leads a process group of its own. When this returns here, whoever adopts orphans has adopted it, and all that
    runs at a fork (os.register_at_fork, what patches os.fork) has run in it.

    since: when it was asked for, on the monotonic clock; PATIENCE later it is stuck.
    """
    read_fd, write_fd = pipe()
    middle = fork()
    if middle == 0:
        close(read_fd)
        _fork_and_tell(write_fd)
        return 0
    close(write_fd)
    try:
        told = _read(read_fd, since + PATIENCE)
    except StuckError:
        _end(middle)
        raise
    finally:
        close(read_fd)
    with suppress(ChildProcessError):  # a module that ignores SIGCHLD
        waitpid(middle, 0)
    pid = told.replace(_STARTED, b"")
    if not pid.isdigit():
        raise OSError(told.decode("utf-8", "replace") or "the process between zygote and worker ended early")
    if _STARTED not in told:
        raise OSError("the forked process ended before it was a worker")
    return int(pid)


def _read(fd: int, end: float) -> bytes:
    """Read to the end, which is there when both processes have started. Raises StuckError."""
    told = b""
    waiting = poll()
    waiting.register(fd, POLLIN)
    while True:
        if not waiting.poll(max(0.0, end - monotonic()) * 1000):
            pid = told.replace(_STARTED, b"")
            if pid.isdigit():
                _kill(int(pid))
            raise StuckError
        data = read(fd, 4096)
        if not data:
            return told
        told += data


def _end(child: int) -> None:
    _kill(child)
    with suppress(ChildProcessError):
        waitpid(child, 0)


def _kill(pid: int) -> None:
    with suppress(OSError):
        kill(pid, SIGKILL)


def _fork_and_tell(write_fd: int) -> None:
    """Fork, tell the child's pid, end. Returns in the child only, which tells that it has started."""
    pid: Optional[int] = None
    try:
        pid = fork()
        with suppress(OSError):  # both do it, so that it is done for whoever goes on first
            setpgid(pid, pid)
        if pid != 0:
            write(write_fd, b"%d" % pid)
    except BaseException as error:  # noqa: BLE001 - whatever it is, there must be no second zygote
        if pid is None:
            write(write_fd, str(error).encode("utf-8", "replace"))
        _exit(1)
    if pid != 0:
        _exit(0)
    write(write_fd, _STARTED)
    close(write_fd)
