"""Nothing that user code does to its standard streams, descriptors or children reaches the protocol (P38)."""

from __future__ import annotations

import os
from typing import List

import pytest
from conftest import Serve

from poolworker import frames

NOISE = """
import ctypes, faulthandler, os, subprocess, sys, threading

@command
def noise(how):
    {
        "print": lambda: print("NOISE print"),
        "print without a newline": lambda: print("NOISE no newline", end="", flush=True),
        "sys.__stdout__": lambda: (sys.__stdout__.write("NOISE dunder"), sys.__stdout__.flush()),
        "os.write": lambda: os.write(1, b"NOISE os.write"),
        "C write": lambda: ctypes.CDLL(None).write(1, b"NOISE C write", 13),
        "C stdio": lambda: (ctypes.CDLL(None).puts(b"NOISE puts"), ctypes.CDLL(None).fflush(None)),
        "subprocess": lambda: subprocess.run(["echo", "NOISE echo"], check=True),
        "os.system": lambda: os.system("echo NOISE system"),
        "fork": fork,
        "faulthandler": lambda: print("NOISE", file=sys.stderr) or faulthandler.dump_traceback(all_threads=True),
        "thread": lambda: [t.start() or t.join() for t in [threading.Thread(target=print, args=("NOISE thread",))]],
        "characters that no locale has": lambda: print("NOISE \\ud800 \\U0001f600"),
    }[how]()
    return how

def fork():
    pid = os.fork()
    if pid == 0:
        print("NOISE from a forked child")
        os._exit(0)
    os.waitpid(pid, 0)

@command
def echo(value): return value
"""

HOWS = [line.split('"')[1] for line in NOISE.splitlines() if line.startswith('        "')]


@pytest.mark.parametrize(
    "env", [{}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}], ids=["", "C locale"]
)
def test_p38_output_goes_to_stderr_and_frames_stay_whole(serve: Serve, env: dict[str, str]) -> None:
    worker = serve(NOISE, env)
    for count, how in enumerate(HOWS, 1):
        assert worker.call("noise", how=how).result == how
        worker.stderr_until("NOISE", count)
        assert worker.call("echo", value=count).result == count
    assert len(HOWS) == 12


@pytest.mark.parametrize("fds", [[3, 4], list(range(3, 256))])
def test_p38_low_descriptors_are_the_users_own(serve: Serve, fds: List[int]) -> None:
    worker = serve("""
import ctypes, os
@command
def scribble(fds):
    written = [ctypes.CDLL(None).write(fd, b"garbage", 7) for fd in fds]
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            pass
    return max(written)
""")
    assert worker.call("scribble", fds=fds).result == -1
    assert worker.call("scribble", fds=fds).result == -1


def test_p38_children_inherit_no_protocol_descriptor(serve: Serve) -> None:
    worker = serve("""
import os, subprocess
mine, _ = os.pipe()
os.set_inheritable(mine, True)
@command
def pipes_of_a_child():
    ls = subprocess.run(["ls", "-l", "/proc/self/fd"], close_fds=False, stdout=subprocess.PIPE, text=True, check=True)
    return [line.split()[-3] for line in ls.stdout.splitlines() if "pipe:" in line], mine
""")
    pipes, mine = worker.call("pipes_of_a_child").result
    assert sorted(pipes) == sorted(["1", "2", str(mine)])


def test_p38_a_forked_child_that_returns_never_answers(serve: Serve) -> None:
    worker = serve("""
import os
@command
def twice():
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return "parent" if pid else "child"
""")
    assert worker.call("twice").result == "parent"
    assert worker.call("twice").result == "parent"


def test_p78_a_child_left_behind_does_not_hold_the_pipes(serve: Serve) -> None:
    """The supervisor sees the end of the stream although a forked grandchild lives on."""
    worker = serve("""
import os, time
@command
def daemon():
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
    return pid
""")
    child = worker.call("daemon").result
    worker.send(frames.SHUTDOWN)
    assert worker.read() is None
    assert worker.exit_code() == 0
    os.kill(child, 0)  # it does live on


def test_multiprocessing_with_spawn_starts_no_second_worker(serve: Serve) -> None:
    worker = serve("""
import multiprocessing, os
@command
def squares(numbers):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        return pool.map(abs, numbers)
""")
    assert worker.call("squares", numbers=[-1, 2]).result == [1, 2]


def test_forked_children_have_the_usual_signals(serve: Serve) -> None:
    worker = serve("""
import multiprocessing, os, signal, time
@command
def terminated(own):
    if own: signal.signal(signal.SIGTERM, lambda *_: os._exit(9))
    ready = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=rest, args=(ready[1],))
    child.start()
    ready[0].recv()
    child.terminate()
    child.join()
    return child.exitcode
def rest(ready):
    ready.send(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    time.sleep(600)
""")
    assert worker.call("terminated", own=False).result == -15
    assert worker.call("terminated", own=True).result == 9
