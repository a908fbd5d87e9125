"""Drives a real zygote over its socket, as a supervisor would, and the workers that it forks."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, List, Optional, Type

from harness import INSTALLED, PATIENCE, Worker

from poolworker import frames

_PR_SET_CHILD_SUBREAPER = 36


class Zygote:
    """One zygote process, with what it has forked. As a context manager all are killed and reaped at the end."""

    def __init__(self, folder: Path, module: str = "user_module", env: Optional[Dict[str, str]] = None) -> None:
        """Start it in folder and have it import the module; answer is what it says of that."""
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._workers: List[ForkedWorker] = []
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(PATIENCE)
        self._log = os.open(folder / "zygote.log", os.O_RDWR | os.O_CREAT | os.O_APPEND)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, INSTALLED, "--zygote", str(theirs.fileno())],
                cwd=folder,
                env={
                    **os.environ,
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "WORKERPOOL_WORKER": "a-zygote-00001",
                    **(env or {}),
                },
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self.answer = self._ask({"module": module, "sysPath": [str(folder)], "supervisor": os.getpid()}, [])

    def __enter__(self) -> Zygote:
        return self

    def __exit__(
        self, _a: Optional[Type[BaseException]], _b: Optional[BaseException], _c: Optional[TracebackType]
    ) -> None:
        for worker in self._workers:
            worker.__exit__(None, None, None)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        self._control.close()
        os.close(self._log)
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)

    def log(self) -> str:
        """Return what the zygote and its workers have printed."""
        return os.pread(self._log, 1 << 20, 0).decode("utf-8", "replace")

    def fork(self) -> ForkedWorker:
        """Have a worker forked; it waits for Init."""
        assert self.answer == {"ready": True}, f"{self.answer}; the log: {self.log()}"
        from_us, to_us = os.pipe(), os.pipe()
        answer = self._ask({"worker": "a-1"}, [from_us[0], to_us[1], self._log])
        os.close(from_us[0])
        os.close(to_us[1])
        if "pid" not in answer:
            os.close(from_us[1])
            os.close(to_us[0])
            raise AssertionError(f"{answer}; the log: {self.log()}")
        worker = ForkedWorker(self, answer["pid"], to_us[0], from_us[1])
        self._workers.append(worker)
        return worker

    def _ask(self, packet: Dict[str, Any], fds: List[int]) -> Dict[str, Any]:
        data = json.dumps(packet).encode()
        if fds:
            socket.send_fds(self._control, [data], fds)
        else:
            self._control.send(data)
        return dict(json.loads(self._control.recv(1 << 16) or b"{}"))


class ForkedWorker(Worker):
    """A worker that a zygote has forked, with the same ways to speak to it."""

    def __init__(self, zygote: Zygote, pid: int, read_fd: int, write_fd: int) -> None:
        """Take its ends of the pipes."""
        self._zygote = zygote
        self.process = _Orphan(pid)  # type: ignore[assignment]
        self.read_fd, self.write_fd, self.memory_fd = read_fd, write_fd, -1
        self.channel = frames.Channel(read_fd, write_fd)
        self.next_id = 0
        self.concurrency = 1

    def __exit__(
        self, _a: Optional[Type[BaseException]], _b: Optional[BaseException], _c: Optional[TracebackType]
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        self.channel.close()

    def stderr(self) -> str:
        """Return what the zygote and its workers have printed."""
        return self._zygote.log()


class _Orphan:
    """A process that this one has adopted: as much of Popen as a Worker uses."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: Optional[int] = None

    def wait(self, timeout: float) -> int:
        if self.returncode is None:
            pidfd = os.pidfd_open(self.pid)
            try:
                assert select.select([pidfd], [], [], timeout)[0], "the worker doesn't end"
            finally:
                os.close(pidfd)
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)
