"""The zygote: imports the user's module once, single-threaded, and forks a worker whenever the supervisor wants one.

It talks over one SOCK_SEQPACKET socket, one JSON object in each packet; docs/protocol.md has them. Workers are forked
twice, so that the supervisor, a subreaper, is their parent: it waits for them itself, and they outlive the zygote.
"""

from __future__ import annotations

from array import array
from gc import collect, freeze
from os import _exit, close, dup2, environ, register_at_fork
from socket import CMSG_SPACE, MSG_CMSG_CLOEXEC, socket
from typing import Any, Dict, Final, List, NamedTuple, NoReturn, Tuple

from poolworker import boot, endings, process, renewal, worker
from poolworker.errors import Failure
from poolworker.forking import PATIENCE, StuckError, fork_orphan
from poolworker.hooks import hooks
from poolworker.libc import Mark
from poolworker.shared import settle
from poolworker.taken import decode_json, encode_json, monotonic

WORKER_VARIABLE: Final = "WORKERPOOL_WORKER"
"""Marks a process, and what it starts, as a worker's; the zygote has its own id in it."""

_STUCK: Final = (
    f"code that hangs at a fork, over {PATIENCE:.0f} s: a hook of the module's, or what has replaced parts of Python"
)
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
                close(fd)


def run(control_fd: int) -> int:
    """Serve the supervisor at the other end of the socket. Returns in forked workers only, with their exit code."""
    control = socket(fileno=process.private(control_fd))
    mortal = process.die_with_parent()
    process.redirect_standard_streams()
    endings.announce()
    mark = Mark(WORKER_VARIABLE)
    zygote = Zygote(control, mark)
    if not mortal or not mark.set(environ.get(WORKER_VARIABLE, "")):
        zygote.refuse(
            ["a Python that can't ask the kernel (no ctypes, or no prctl): forked workers could be left behind"]
        )
    zygote.prepare()
    return zygote.serve()


class Zygote:
    """The process that workers are forked from. It never runs atexit hooks: those are the workers'."""

    def __init__(self, control: socket, mark: Mark) -> None:
        """Talk over control; nothing is done before prepare. mark: what shows whose process one is."""
        self._control = control
        self._mark = mark
        self._inherited = renewal.Inherited()
        self._supervisor = 0
        self._module = ""
        register_at_fork(after_in_child=control.close)  # also in children of the user's

    def prepare(self) -> None:
        """Import the module that the first packet names, and say whether workers can be forked."""
        settings = self._receive()[0]
        self._module = settings["module"]
        self._supervisor = settings["supervisor"]  # not always this process's parent: that may be a script
        try:
            boot.prepend_path(settings["sysPath"])
            boot.load(self._module)
            hooks.preload(self._module)
        except Failure as failure:
            self._send({"error": failure.parts()})
            _exit(worker.EXIT_BOOT_FAILED)
        collect()
        left = settle(self._control.fileno())
        if left:
            self.refuse(left)
        self._inherited.note()
        freeze()  # collections in workers leave the pages of what is shared untouched
        self._send({"ready": True})

    def serve(self) -> int:
        """Fork a worker for each packet. Returns in the worker, when it ends, with its exit code."""
        while True:
            settings, fds = self._receive()
            since = monotonic()
            order = Order(settings["worker"], *fds)
            left = settle(self._control.fileno())
            if left:
                order.close()
                self._send({"refused": left})  # and the supervisor ends this process
                continue
            self._inherited.flush()
            try:
                pid = fork_orphan(since)
            except StuckError:
                order.close()
                self._send({"stuck": _STUCK})
                continue
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
        _exit(0)

    def _become(self, order: Order) -> int:
        """Turn this forked process into the worker and serve to its end; returns its exit code."""
        dup2(order.output, 1)
        dup2(order.output, 2)
        close(order.output)
        self._mark.set(order.worker)
        self._inherited.disown()
        renewal.renew()
        channel = process.open_channel(order.requests, order.replies)
        return worker.run_forked(channel, self._module, self._supervisor, order.memory)

    def _send(self, message: Dict[str, Any]) -> None:
        try:
            self._control.send(encode_json(message).encode("ascii"))
        except OSError:  # the supervisor has gone
            _exit(0)

    def _receive(self) -> Tuple[Dict[str, Any], array[int]]:
        """Wait for a packet and the descriptors that come with it. The end of the socket is the end of the process."""
        fds = array("i")
        room = CMSG_SPACE(_MAX_FDS * fds.itemsize)
        data, ancillary, _, _ = self._control.recvmsg(_PACKET, room, MSG_CMSG_CLOEXEC)
        if not data:
            _exit(0)
        for _, _, content in ancillary:
            fds.frombytes(content)
        return decode_json(data.decode()), fds
