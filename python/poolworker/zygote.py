"""The zygote: imports the user's module once, single-threaded, and forks a worker whenever the supervisor wants one.

It talks over one SOCK_SEQPACKET socket, one JSON object in each packet; docs/protocol.md has them. Workers are forked
twice, so that the supervisor, a subreaper, is their parent: it waits for them itself, and they outlive the zygote.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import socket
from array import array
from typing import Any, Dict, Final, List, NamedTuple, NoReturn, Optional, Tuple

from poolworker import boot, process, renewal, worker
from poolworker.errors import Failure
from poolworker.hooks import PRELOAD, hooks
from poolworker.shared import settle

WORKER_VARIABLE: Final = "WORKERPOOL_WORKER"
"""Marks a process, and what it starts, as a worker's; the zygote has its own id in it."""

_PACKET: Final = 64 << 10
_MAX_FDS: Final = 4


class Order(NamedTuple):
    """A worker to fork: its id, and its ends of the pipes and of the memory."""

    worker: str
    requests: int
    replies: int
    output: int
    memory: int = -1  # -1: there is none

    def close(self) -> None:
        """Close its ends: as long as another process has one, the supervisor's death is no end of input."""
        for fd in (self.requests, self.replies, self.output, self.memory):
            if fd >= 0:
                os.close(fd)


def run(control_fd: int) -> int:
    """Serve the supervisor at the other end of the socket. Returns in forked workers only, with their exit code."""
    control = socket.socket(fileno=process.private(control_fd))
    mortal = process.die_with_parent()
    process.redirect_standard_streams()
    zygote = Zygote(control)
    if not mortal or not process.mark(WORKER_VARIABLE, os.environ.get(WORKER_VARIABLE, "")):
        zygote.refuse(
            ["a Python that can't ask the kernel (no ctypes, or no prctl): forked workers could be left behind"]
        )
    zygote.prepare()
    return zygote.serve()


class Zygote:
    """The process that workers are forked from. It never runs atexit hooks: those are the workers'."""

    def __init__(self, control: socket.socket) -> None:
        """Talk over control; nothing is done before prepare."""
        self._control = control
        self._supervisor = 0
        self._module = ""
        os.register_at_fork(after_in_child=control.close)  # also in children of the user's

    def prepare(self) -> None:
        """Import the module that the first packet names, and say whether workers can be forked."""
        settings = self._receive()[0]
        self._module = settings["module"]
        self._supervisor = settings["supervisor"]  # not always this process's parent: that may be a script
        try:
            boot.prepend_path(settings["sysPath"])
            boot.load(self._module)
            hooks.begin(PRELOAD, self._module, lambda function: function())
        except Failure as failure:
            self._send({"error": failure.parts()})
            os._exit(worker.EXIT_BOOT_FAILED)
        gc.collect()
        left = settle(self._control.fileno())
        if left:
            self.refuse(left)
        gc.freeze()  # collections in workers leave the pages of what is shared untouched
        self._send({"ready": True})

    def serve(self) -> int:
        """Fork a worker for each packet. Returns in the worker, when it ends, with its exit code."""
        while True:
            settings, fds = self._receive()
            order = Order(settings["worker"], *fds)
            left = settle(self._control.fileno())
            if left:
                order.close()
                self._send({"refused": left})  # and the supervisor ends this process
                continue
            renewal.flush()
            try:
                pid = fork_orphan()
            except OSError as error:
                order.close()
                self._send({"failed": str(error)})
                continue
            if pid == 0:
                return self._become(order)
            order.close()
            self._send({"pid": pid})

    def refuse(self, left: List[str]) -> NoReturn:
        """Say why no worker can ever be forked, and end."""
        self._send({"refused": left})
        os._exit(0)

    def _become(self, order: Order) -> int:
        """Turn this forked process into the worker and serve to its end; returns its exit code."""
        os.dup2(order.output, 1)
        os.dup2(order.output, 2)
        os.close(order.output)
        process.mark(WORKER_VARIABLE, order.worker)
        renewal.renew()
        channel = process.open_channel(order.requests, order.replies)
        return worker.run_forked(channel, self._module, self._supervisor, order.memory)

    def _send(self, message: Dict[str, Any]) -> None:
        try:
            self._control.send(json.dumps(message).encode("ascii"))
        except OSError:  # the supervisor has gone
            os._exit(0)

    def _receive(self) -> Tuple[Dict[str, Any], array[int]]:
        """Wait for a packet and the descriptors that come with it. The end of the socket is the end of the process."""
        fds = array("i")
        room = socket.CMSG_SPACE(_MAX_FDS * fds.itemsize)
        data, ancillary, _, _ = self._control.recvmsg(_PACKET, room, socket.MSG_CMSG_CLOEXEC)
        if not data:
            os._exit(0)
        for _, _, content in ancillary:
            fds.frombytes(content)
        return json.loads(data), fds


def fork_orphan() -> int:
    """Fork a process that isn't this one's child; returns its pid here, and 0 in it. Raises OSError.

    It leads a process group of its own. When this returns here, whoever adopts orphans has adopted it.
    """
    read_fd, write_fd = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.close(read_fd)
        _fork_and_tell(write_fd)
        return 0
    os.close(write_fd)
    told = b""
    with open(read_fd, "rb", buffering=0) as pipe:
        told = pipe.readall() or b""
    with contextlib.suppress(ChildProcessError):  # a module that ignores SIGCHLD
        os.waitpid(middle, 0)
    if not told.isdigit():
        raise OSError(told.decode("utf-8", "replace") or "the process between zygote and worker ended early")
    return int(told)


def _fork_and_tell(write_fd: int) -> None:
    """Fork, tell the child's pid, end. Returns in the child only."""
    pid: Optional[int] = None
    try:
        pid = os.fork()
        with contextlib.suppress(OSError):  # both do it, so that it is done for whoever goes on first
            os.setpgid(pid, pid)
        if pid != 0:
            os.write(write_fd, b"%d" % pid)
    except BaseException as error:  # noqa: BLE001 - whatever it is, there must be no second zygote
        if pid is None:
            os.write(write_fd, str(error).encode("utf-8", "replace"))
        os._exit(1)
    if pid != 0:
        os._exit(0)
    os.close(write_fd)
