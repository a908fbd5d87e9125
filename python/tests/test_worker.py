"""The worker's life: handshake, requests, ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Serve
from harness import GENERATION, INSTALLED, Worker, wait_gone, write_module

from poolworker import frames

ECHO = """
@command
def echo(value): return value
"""


def test_p5_init_echoes_worker_mode_and_commands(start: Serve) -> None:
    worker = start(ECHO + "@command(name='text.twice')\ndef f(): ...\n")
    answer = worker.init("user_module", worker="b-17", mode="spawn")
    assert {key: value for key, value in {**answer.result, "codec": ""}.items() if key != "stack"} == {
        "worker": "b-17",
        "mode": "spawn",
        "codec": "",
        "commands": ["echo", "text.twice"],
    }


def test_p5_worker_id_is_known_to_the_module(serve: Serve) -> None:
    worker = serve("import poolworker\nAT_IMPORT = poolworker.worker_id()\n@command\ndef who(): return AT_IMPORT")
    assert worker.call("who").result == "a-1"


def test_ping_between_requests_echoes_its_id(serve: Serve) -> None:
    worker = serve(ECHO)
    for _ in range(3):
        id = worker.send(frames.PING)
        assert worker.read() == frames.Frame(frames.PONG, GENERATION, id, 0, b"", b"")
        assert worker.call("echo", value=1).result == 1


def test_p32_requests_written_byte_by_byte_and_two_at_once(serve: Serve) -> None:
    worker = serve(ECHO)
    data = frames.encode(frames.REQUEST, GENERATION, 100, b'{"value": "split"}', b"echo")
    for i in range(len(data)):
        os.write(worker.write_fd, data[i : i + 1])
    assert worker.reply(100).result == "split"
    both = [frames.encode(frames.REQUEST, GENERATION, i, b'{"value": %d}' % i, b"echo") for i in (101, 102)]
    os.write(worker.write_fd, b"".join(both))
    assert [worker.read(), worker.read()] == [
        frames.Frame(frames.RESULT, GENERATION, i, 0, b"", b"%d" % i) for i in (101, 102)
    ]


def test_p43_large_payloads_come_back_unchanged(serve: Serve) -> None:
    worker = serve(ECHO, maxPayload=8 << 20)
    for size in (1, 65_507, 65_536, 1_000_000, 7 << 20):
        value = "x" * size
        pid = os.fork()  # another process writes, as the pipe holds less than the payload
        if pid == 0:
            worker.send(frames.REQUEST, json.dumps({"value": value}).encode(), b"echo")
            os._exit(0)
        worker.next_id += 1
        worker.channel.max_payload = 8 << 20
        assert worker.reply(worker.next_id).result == value
        os.waitpid(pid, 0)


@pytest.mark.parametrize("when", ["before init", "after init", "inside a frame"])
def test_end_of_input_is_exit_0_and_burns_nothing(start: Serve, when: str) -> None:
    worker = start(ECHO)
    expected = 0
    if when != "before init":
        worker.init("user_module")
    if when == "inside a frame":
        os.write(worker.write_fd, b"\0\0\0\x20")
        expected = 4
    worker.close_input()
    _, status, usage = os.wait4(worker.process.pid, 0)
    worker.process.returncode = os.waitstatus_to_exitcode(status)
    assert worker.process.returncode == expected
    assert usage.ru_utime + usage.ru_stime < 2.0


def test_end_of_input_runs_atexit(serve: Serve) -> None:
    worker = serve(ECHO + "import atexit\natexit.register(print, 'bye')")
    worker.close_input()
    assert worker.exit_code() == 0
    assert "bye" in worker.stderr()


def test_an_atexit_hook_or_thread_that_hangs_is_bounded(serve: Serve) -> None:
    hang = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()"
    worker = serve(ECHO + hang)
    worker.close_input()
    assert worker.exit_code() == -signal.SIGALRM


def test_shutdown_after_the_running_request(serve: Serve) -> None:
    worker = serve(ECHO)
    id = worker.send(frames.REQUEST, b'{"value": 1}', b"echo")
    worker.send(frames.SHUTDOWN)
    assert worker.read() == frames.Frame(frames.RESULT, GENERATION, id, 0, b"", b"1")
    assert worker.read() is None
    assert worker.exit_code() == 0


def test_supervisor_that_stops_reading_ends_the_worker(serve: Serve) -> None:
    worker = serve(ECHO)
    os.close(worker.read_fd)
    worker.channel._read_fd = -1
    worker.send(frames.REQUEST, b'{"value": 1}', b"echo")
    assert worker.exit_code() == 0


MALFORMED = {
    "P33 payload over the limit": (frames.HEADER.pack(24 + (2 << 20), frames.REQUEST, 0, 0, 7, 1, 0), "2097152 bytes"),
    "length below the header": (frames.HEADER.pack(3, frames.REQUEST, 0, 0, 7, 1, 0), "length 3"),
    "unknown flags": (frames.HEADER.pack(24, frames.PING, 0x80, 0, 7, 1, 0), "flags 0x80"),
    "P36 unknown kind": (frames.HEADER.pack(24, 99, 0, 0, 7, 1, 0), "kind 99"),
    "a second Init": (frames.HEADER.pack(24, frames.INIT, 0, 0, 7, 1, 0), "kind 2"),
    "another generation": (frames.HEADER.pack(24, frames.PING, 0, 0, 8, 1, 0), "generation 8"),
    "P42 random bytes": (b"\xfa\x07\x91\x33" * 30, "bytes"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_p33_p36_p42_a_broken_stream_ends_the_worker_with_4(serve: Serve, case: str) -> None:
    data, reason = MALFORMED[case]
    worker = serve(ECHO)
    os.write(worker.write_fd, data)
    assert worker.read() is None
    assert worker.exit_code() == 4
    assert reason in worker.stderr()


def test_p11_death_of_the_parent_kills_a_busy_worker(tmp_path: Path) -> None:
    """The pipes stay open in this process, so that end of input isn't what does it."""
    write_module(tmp_path, "@command\ndef spin():\n    print('spinning')\n    while True: pass")
    middle = subprocess.Popen(
        [sys.executable, "-B", "-c", _MIDDLE, str(Path(__file__).parent), INSTALLED, str(tmp_path)],
        stdout=subprocess.PIPE,
    )
    assert middle.stdout is not None
    pidfd = os.pidfd_open(int(middle.stdout.readline()))
    try:
        middle.kill()
        assert wait_gone([pidfd], 2.0)
    finally:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL) if not wait_gone([pidfd], 0) else None
        os.close(pidfd)
        middle.wait()
        middle.stdout.close()


# Holds its pipes' ends in a forked child too, that outlives it.
_MIDDLE = """
import os, sys, time
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
from harness import Worker, frames
worker = Worker(Path(sys.argv[3]))
worker.init("user_module")
worker.send(frames.REQUEST, b"{}", b"spin")
worker.stderr_until("spinning")
if os.fork() == 0:
    os.close(1)
    time.sleep(5)
    os._exit(0)
print(worker.process.pid, flush=True)
time.sleep(600)
"""


def test_p11_death_of_the_parent_before_the_request_for_it(start: Serve) -> None:
    """A parent that was gone even before prctl shows as the end of input."""
    worker = start(ECHO)
    worker.close_input()
    assert worker.exit_code() == 0


ENDS = {
    "sys.exit": ("sys.exit(7)", 7),
    "sys.exit(0)": ("sys.exit()", 0),
    "sys.exit with text": ("sys.exit('no quota')", 1),
    "os._exit": ("os._exit(9)", 9),
    "SIGSEGV": ("os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV),
    "a real segmentation fault": ("ctypes.string_at(0)", -signal.SIGSEGV),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "abort": ("os.abort()", -signal.SIGABRT),
}


@pytest.mark.parametrize("case", ENDS)
@pytest.mark.parametrize("handler", ["def", "async def"])
def test_p77_ends_of_a_process_can_be_told_apart(serve: Serve, case: str, handler: str) -> None:
    expression, status = ENDS[case]
    worker = serve(f"import ctypes, os, signal, sys\n@command\n{handler} end(): {expression}")
    worker.send(frames.REQUEST, b"{}", b"end")
    assert worker.read() is None
    assert worker.exit_code() == status
    stderr = worker.stderr()
    if "seg" in case.lower() or case == "abort":
        assert "Fatal Python error" in stderr
        assert "in end" in stderr
    assert ("no quota" in stderr) == (case == "sys.exit with text")


@pytest.mark.parametrize("ctypes", ["raise ImportError", "def CDLL(name): raise OSError", "CDLL = lambda name: None"])
def test_p114_a_python_that_cannot_ask_the_kernel_serves_all_the_same(
    start: Serve, tmp_path: Path, ctypes: str
) -> None:
    """No ctypes, a static interpreter, a C library without prctl."""
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / "ctypes.py").write_text(ctypes)
    worker = start(ECHO, env={"PYTHONPATH": str(tmp_path / "early")})
    worker.init("user_module")
    assert worker.call("echo", value=1).result == 1


def test_sigterm_ends_an_idle_and_a_busy_worker(serve: Serve) -> None:
    source = (
        ECHO
        + """
import atexit, time
atexit.register(print, "bye")
@command
def rest():
    try:
        print("resting")
        time.sleep(600)
    finally:
        print("cleaned up")
"""
    )
    idle = serve(source)
    idle.process.terminate()
    assert idle.exit_code() == 143
    assert "bye" in idle.stderr()

    busy = serve(source)
    busy.send(frames.REQUEST, b"{}", b"rest")
    busy.stderr_until("resting")
    busy.process.terminate()
    assert busy.exit_code() == 143
    assert "cleaned up\nbye" in busy.stderr()


def test_sigterm_that_a_handler_swallows_takes_effect_at_its_end(serve: Serve) -> None:
    worker = serve("""
import time
@command
def stubborn():
    try:
        print("resting")
        time.sleep(600)
    except BaseException:
        return "swallowed"
""")
    id = worker.send(frames.REQUEST, b"{}", b"stubborn")
    worker.stderr_until("resting")
    worker.process.terminate()
    assert worker.reply(id).result == "swallowed"
    assert worker.exit_code() == 143


@pytest.mark.parametrize(
    "handler",
    [
        "def rest():\n    print('resting')\n    time.sleep(600)",
        "async def rest():\n    print('resting')\n    await asyncio.sleep(600)",
    ],
)
def test_p29_sigint_interrupts_a_handler_and_nothing_else(serve: Serve, handler: str) -> None:
    worker = serve(ECHO + f"import asyncio, time\n@command\n{handler}\n")
    worker.process.send_signal(signal.SIGINT)
    assert worker.call("echo", value="idle SIGINT is ignored").kind == frames.RESULT
    id = worker.send(frames.REQUEST, b"{}", b"rest")
    worker.stderr_until("resting")
    worker.process.send_signal(signal.SIGINT)
    answer = worker.reply(id)
    assert (answer.type, answer.message) == ("communication_error/python_error", "KeyboardInterrupt")
    assert worker.call("echo", value=1).result == 1


def test_p29_sigint_reaches_an_async_handler_wherever_it_lands(serve: Serve) -> None:
    """Python drops what a signal handler raises in a finaliser; the handler here is in one when the signal comes."""
    worker = serve(
        """
import asyncio, os, signal
class Dropped:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000): pass
@command
async def rest():
    Dropped()
    await asyncio.sleep(600)
@command
async def echo(value): return value
"""
    )
    answer = worker.call("rest")
    assert (answer.type, answer.message) == ("communication_error/python_error", "KeyboardInterrupt")
    assert worker.call("echo", value=1).result == 1


def test_closed_standard_streams_do_no_harm(start: Serve) -> None:
    worker = start(
        """
import subprocess, sys
@command
def use():
    print("hello")
    return [sys.stdin is None or sys.stdin.read() == "", subprocess.run(["cat"]).returncode]
""",
        close=(0, 1, 2),
    )
    worker.init("user_module")
    assert worker.call("use").result == [True, 0]


def test_stdin_is_empty(serve: Serve) -> None:
    worker = serve("import os, sys\n@command\ndef ask(): return [sys.stdin.read(), os.read(0, 10).decode()]")
    assert worker.call("ask").result == ["", ""]


def test_wrong_usage_of_fds_is_exit_2() -> None:
    for arguments in (["--fds"], ["--fds", "3"], ["--fds", "3,x"], []):
        done = subprocess.run([sys.executable, "-B", INSTALLED, *arguments], capture_output=True, check=False)
        assert done.returncode == 2
        assert b"usage" in done.stderr


def test_worker_is_reaped_and_its_descriptors_too(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        pid = worker.process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
