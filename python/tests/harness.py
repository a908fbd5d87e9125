"""Drives a real worker process over its two pipes, as a supervisor would."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Type

from poolworker import codecs, frames

INSTALLED = str(Path(__file__).resolve().parent.parent)
PATIENCE = 20.0  # seconds until a test says that the worker hangs
GENERATION = 7

# fcntl has these names since Python 3.8 only where the C library does.
_F_ADD_SEALS = 1033
_SEALS = 1 | 2 | 4  # no more seals, no shrinking, no growing


class Reply(NamedTuple):
    """A Result or an Error, decoded."""

    kind: int
    body: Any

    @property
    def type(self) -> str:
        """`category/type` of an Error."""
        assert self.kind == frames.ERROR, f"a result came: {self.body!r}"
        assert sorted(self.body) == ["category", "context", "message", "type"]
        return f"{self.body['category']}/{self.body['type']}"

    @property
    def message(self) -> str:
        """Message of an Error."""
        assert self.kind == frames.ERROR, f"a result came: {self.body!r}"
        return str(self.body["message"])

    @property
    def result(self) -> Any:
        """A Result's value."""
        assert self.kind == frames.RESULT, f"an error came: {self.body!r}"
        return self.body


class Worker:
    """One worker process. As a context manager it is killed and reaped at the end, with its whole group."""

    def __init__(
        self, folder: Path, env: Optional[Dict[str, str]] = None, close: Sequence[int] = (), memory: int = 0
    ) -> None:
        """Start in folder. close: descriptors that the process doesn't get (0, 1, 2). memory: its bytes."""
        from_us, to_us = os.pipe(), os.pipe()
        stderr_read, stderr_write = os.pipe()
        self.memory_fd = sealed_memory(memory) if memory else -1
        self._stderr_fd = stderr_read
        self._stderr = b""
        theirs = (from_us[0], to_us[1], self.memory_fd)[: 3 if memory else 2]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, ",".join(map(str, theirs)), ",".join(map(str, close)), INSTALLED],
            cwd=folder,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr_write,
            pass_fds=theirs,
            start_new_session=True,
        )
        for fd in (from_us[0], to_us[1], stderr_write):
            os.close(fd)
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it may have let go of it already
            self.process.stdin.write(b"no business of the worker's\n")
            self.process.stdin.flush()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.read_fd, self.write_fd = to_us[0], from_us[1]
        self.channel = frames.Channel(self.read_fd, self.write_fd)
        if memory:  # a reference is read as the payload that it is
            self.channel._unknown_flags &= ~frames.FLAG_MEMORY
        self.next_id = 0
        self.concurrency = 1

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, _a: Optional[Type[BaseException]], _b: Optional[BaseException], _c: Optional[TracebackType]
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        self.channel.close()
        os.close(self._stderr_fd)
        if self.memory_fd >= 0:
            os.close(self.memory_fd)

    def read(self) -> Optional[frames.Frame]:
        """Return the next frame, None at the end; fails the test when none comes."""
        if not self.channel._unread:
            ready, _, _ = select.select([self.read_fd], [], [], PATIENCE)
            assert ready, f"the worker is silent; its stderr: {self.stderr()}"
        return self.channel.read()

    def send(
        self,
        kind: int,
        payload: bytes = b"",
        meta: bytes = b"",
        generation: int = GENERATION,
        flags: int = 0,
        budget: int = 0,
    ) -> int:
        """Send a frame with a fresh id, which is returned."""
        self.next_id += 1
        self.channel.write(frames.encode(kind, generation, self.next_id, payload, meta, budget, flags))
        return self.next_id

    def reply(self, id: int) -> Reply:
        """Return the Result or Error that must come next, for id."""
        frame = self.read()
        assert frame is not None, f"the worker ended; its stderr: {self.stderr()}"
        assert (frame.generation, frame.id, self.channel._unread) == (GENERATION, id, b"")
        return Reply(frame.kind, json.loads(frame.payload))

    def init(self, module: str, **settings: Any) -> Reply:
        """Take Hello, send Init, return its answer."""
        hello = self.read()
        assert hello is not None, f"the worker ended before Hello; its stderr: {self.stderr()}"
        assert (hello.kind, hello.generation, hello.id) == (frames.HELLO, 0, 0)
        assert json.loads(hello.payload)["pid"] == self.process.pid
        self.concurrency = settings.get("concurrency", 1)
        init = {"worker": "a-1", "mode": "spawn", "module": module, "sysPath": [], "maxPayload": 1 << 20, **settings}
        return self.reply(self.send(frames.INIT, json.dumps(init).encode()))

    def raw(self, command: str, payload: bytes) -> Reply:
        """Send a Request with these bytes and return its answer."""
        return self.reply(self.send(frames.REQUEST, payload, command.encode()))

    def call(self, command: str, /, **arguments: Any) -> Reply:
        """Send a Request and return its answer."""
        return self.raw(command, json.dumps(arguments).encode())

    def execute(self, command: str, hash: str, /, **arguments: Any) -> Reply:
        """Send a Request of the program of that hash and return its answer."""
        meta = f"{command}\0{hash}".encode()
        return self.reply(self.send(frames.REQUEST, json.dumps(arguments).encode(), meta, flags=frames.FLAG_PROGRAM))

    def close_input(self) -> None:
        """Give the worker its end of input."""
        os.close(self.write_fd)
        self.channel._write_fd = -1

    def exit_code(self) -> int:
        """Wait for the end; negative: the signal."""
        return self.process.wait(PATIENCE)

    def stderr(self) -> str:
        """What the worker wrote to stderr so far."""
        while select.select([self._stderr_fd], [], [], 0)[0]:
            data = os.read(self._stderr_fd, 65536)
            if not data:
                break
            self._stderr += data
        return self._stderr.decode("utf-8", "replace")

    def stderr_until(self, text: str, count: int = 1) -> str:
        """Wait until the worker's stderr holds text that often, and return it."""
        end = time.monotonic() + PATIENCE
        while self.stderr().count(text) < count:
            select.select([self._stderr_fd], [], [], max(0.0, end - time.monotonic()))
            assert time.monotonic() < end, f"{text!r} didn't come; stderr: {self._stderr!r}"
        return self.stderr()


# Puts the two pipes, and the memory, at 3 and on, as the supervisor does, and becomes the worker.
_LAUNCH = """
import os, sys
low = [os.dup(int(fd)) for fd in sys.argv[1].split(",")]
high = [os.dup2(fd, 100 + i, inheritable=False) for i, fd in enumerate(low)]
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i)
os.closerange(3 + len(high), 100)
for fd in filter(None, sys.argv[2].split(",")):
    os.close(int(fd))
os.execv(sys.executable, [sys.executable, sys.argv[3], "--fds", "3,4,5"[: 2 * len(high) - 1]])
"""


def sealed_memory(size: int) -> int:
    """Return a file of that size in memory which nobody can resize."""
    fd = os.memfd_create("memory", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)
    return fd


def write_module(folder: Path, source: str, name: str = "user_module") -> None:
    """Write a user's module into folder; `command` is imported for it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text("from poolworker import command\n" + textwrap.dedent(source), encoding="utf-8")


def wait_gone(pidfds: List[int], seconds: float) -> bool:
    """Report whether the processes behind all pidfds end within that time."""
    end = time.monotonic() + seconds
    return all(select.select([fd], [], [], max(0.0, end - time.monotonic()))[0] for fd in pidfds)


def codec_names() -> List[str]:
    """Name the codecs that this Python has, the one that is used where none is named first."""
    names = []
    for name in ("orjson", "msgspec", "json"):
        with contextlib.suppress(ValueError):
            names.append(codecs.load(name).name)
    return names
