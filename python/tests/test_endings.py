"""The end of a worker in order: nothing that was written is lost, and nothing is written twice (P106)."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import List

import pytest
from conftest import Serve
from harness import Worker, write_module
from zygotes import Zygote

from poolworker import frames

WRITES = r"""
import atexit, csv, gzip, io, logging.handlers, os, sys
from poolworker import worker_start

at_import = open("import", "a")
at_import.write("at import\n")

@worker_start
def start():
    global rows, table, packed, log
    rows = open("start", "a", newline="")
    table = csv.writer(rows)
    packed = gzip.open("packed", "at")
    log = logging.handlers.MemoryHandler(1000, target=logging.FileHandler("log"))

class Late:
    def __init__(self, path): self.fd, self.kept, self.me = os.open(path, os.O_WRONLY | os.O_CREAT), [], self
    def __del__(self, write=os.write): write(self.fd, "".join(self.kept).encode())

late = Late("late")
last = open("atexit", "a")
atexit.register(last.write, "at exit\n")

@command
def record(n):
    global opened
    table.writerow([n])
    packed.write(f"{n}\n")
    late.kept.append(f"{n}\n")
    log.emit(logging.makeLogRecord({"msg": n, "levelno": 20}))
    opened = open("handler", "ab")
    opened.write(b"in a handler\n")
    return n

@command
def leave(): sys.exit(7)
"""


def end(worker: Worker, how: str) -> None:
    if how == "shutdown":
        worker.send(frames.SHUTDOWN)
    elif how == "SIGTERM":
        worker.process.terminate()
    else:
        worker.send(frames.REQUEST, b"{}", b"leave")
    assert worker.exit_code() == {"shutdown": 0, "SIGTERM": 143, "sys.exit": 7}[how]


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("how", ["shutdown", "SIGTERM", "sys.exit"])
def test_p106_what_was_written_is_there_after_an_orderly_end(
    serve_as: Serve, tmp_path: Path, concurrency: int, how: str
) -> None:
    worker = serve_as(WRITES, concurrency=concurrency)
    for n in range(20):
        assert worker.call("record", n=n).result == n
    end(worker, how)
    rows = "".join(f"{n}\n" for n in range(20))
    assert (tmp_path / "start").read_text().split() == rows.split()
    assert gzip.decompress((tmp_path / "packed").read_bytes()).decode() == rows
    assert (tmp_path / "late").read_text() == rows
    assert (tmp_path / "log").read_text() == rows
    assert (tmp_path / "handler").read_text() == "in a handler\n" * 20
    assert (tmp_path / "import").read_text() == "at import\n"
    assert (tmp_path / "atexit").read_text() == "at exit\n"


def test_p103_what_was_buffered_before_forks_is_written_once(tmp_path: Path) -> None:
    write_module(
        tmp_path,
        """
        import ctypes, io, logging.handlers, tempfile
        from poolworker import preload
        text, raw = open("text", "w"), open("raw", "wb")
        text.write("text;")
        raw.write(b"raw;")
        nested = io.TextIOWrapper(io.BufferedWriter(io.FileIO("nested", "w")))
        nested.write("nested;")
        log = logging.handlers.MemoryHandler(1000, target=logging.FileHandler("log"))
        log.emit(logging.makeLogRecord({"msg": "logged", "levelno": 20}))
        libc = ctypes.CDLL(None)
        libc.printf(b"printed in C;")

        @preload
        def load():
            global late
            late = open("preload", "w")
            late.write("preload;")

        @command
        def add():
            text.write("worker;")
        """,
    )
    with Zygote(tmp_path) as zygote:
        for _ in range(3):
            worker = zygote.fork()
            worker.init("user_module", mode="fork")
            assert worker.call("add").result is None
            worker.close_input()
            assert worker.exit_code() == 0
        assert (tmp_path / "text").read_text() == "text;" + "worker;" * 3
        assert [(tmp_path / name).read_text() for name in ("raw", "nested", "preload", "log")] == [
            "raw;", "nested;", "preload;", "logged\n",
        ]  # fmt: skip
        assert zygote.log().count("printed in C;") == 1


def test_p103_temporary_files_of_the_import_outlive_the_first_worker(tmp_path: Path) -> None:
    write_module(
        tmp_path,
        """
        import os, tempfile
        folder = tempfile.TemporaryDirectory(dir=".")
        file = tempfile.NamedTemporaryFile(dir=".")
        @command
        def there(): return [os.path.exists(folder.name), os.path.exists(file.name)]
        """,
    )
    with Zygote(tmp_path) as zygote:
        found: List[object] = []
        for _ in range(2):
            worker = zygote.fork()
            worker.init("user_module", mode="fork")
            found.append(worker.call("there").result)
            worker.close_input()
            assert worker.exit_code() == 0
    assert found == [[True, True]] * 2
