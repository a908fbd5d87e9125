"""Commands that behave in every way a worker can. What the whole module does comes from its environment."""

import asyncio
import ctypes
import faulthandler
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time

import poolworker
from poolworker import command, frames, worker_start, worker_stop
from poolworker.frames import Channel

if "FIXTURE_CHILD" in os.environ:  # a child that outlives a careless kill
    with open(os.environ["FIXTURE_CHILD"], "w") as f:
        f.write(str(subprocess.Popen(["sleep", "600"]).pid))
if "FIXTURE_IMPORT_LEAK" in os.environ:  # MiB at a time
    heap = []
    while True:
        heap.append(bytearray(os.urandom(1)) * (int(os.environ["FIXTURE_IMPORT_LEAK"]) << 20))
        time.sleep(0.01)
if "FIXTURE_IMPORT_SAY" in os.environ:
    print(os.environ["FIXTURE_IMPORT_SAY"], flush=True)
if "FIXTURE_IMPORT_SLEEP" in os.environ:
    time.sleep(float(os.environ["FIXTURE_IMPORT_SLEEP"]))


@worker_start
def start():
    if "FIXTURE_RENDEZVOUS" in os.environ:  # "folder:n": no start ends before n of them are under way
        folder, _, n = os.environ["FIXTURE_RENDEZVOUS"].rpartition(":")
        open(os.path.join(folder, str(os.getpid())), "w").close()
        while len(os.listdir(folder)) < int(n):
            time.sleep(0.01)
    if "FIXTURE_ALONE" in os.environ:  # a file that only one worker can have, as a port
        global alone
        alone = open(os.environ["FIXTURE_ALONE"], "w")
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if "FIXTURE_DIE_IDLE" in os.environ:
        threading.Timer(float(os.environ["FIXTURE_DIE_IDLE"]), lambda: os._exit(9)).start()


if "FIXTURE_STOP_SLEEP" in os.environ:
    worker_stop(lambda: time.sleep(float(os.environ["FIXTURE_STOP_SLEEP"])))


kept: list[bytearray] = []


def reply_fd():
    """The descriptor that user code must never touch, as a hostile module would find it: a high one, of a pipe that others read."""
    written, elsewhere = {}, set()
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            flags, target = fcntl.fcntl(fd, fcntl.F_GETFL), os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if fd >= 512 and target.startswith("pipe:") and flags & os.O_ACCMODE == os.O_WRONLY:
            written[target] = fd
        else:
            elsewhere.add(target)
    (fd,) = (fd for target, fd in written.items() if target not in elsewhere)
    return fd


@command
def echo(value):
    return value


@command
def pattern(seed, size):
    """A text that is so long as JSON, and is another for each seed."""
    return (f"{seed:08d}" * (size // 8 + 1))[: size - 2]


IMPORTED_IN = os.getpid()


@command
def imported_in():
    return IMPORTED_IN


@command
def pid():
    return os.getpid()


@command
def sleep(ms, value=None):
    time.sleep(ms / 1000)
    return value


@command
def hold(path):
    while not os.path.exists(path):
        time.sleep(0.005)
    return "held"


@command
def occupy(path):
    """Say that it has begun; return who this is, once path is there."""
    with open(path + ".new", "w") as f:
        f.write(str(os.getpid()))
    os.rename(path + ".new", path + ".begun")
    hold(path)
    return os.getpid()


@command
def noisy():
    print("to stdout")
    os.write(1, b"to fd 1\n")
    subprocess.run(["echo", "from a subprocess"])
    faulthandler.dump_traceback()
    return "quiet"


@command
def spin(ms):
    """Use the CPU for so long."""
    end = time.process_time() + ms / 1000
    while time.process_time() < end:
        pass


@command
def grow(mb):
    """Keep memory that is this process's own."""
    kept.append(bytearray(os.urandom(1)) * (mb << 20))


@command
def leak(mb, ms):
    """Keep ever more memory, so much at a time."""
    while True:
        grow(mb)
        time.sleep(ms / 1000)


@command
def grow_once(mb):
    """Use so much memory and give it back."""
    return len(bytearray(mb << 20))


@command
def grow_child(mb):
    """Leave a process of the same group that keeps as much."""
    ready, told = os.pipe()
    if os.fork() == 0:
        grow(mb)
        os.write(told, b"x")
        time.sleep(600)
    os.read(ready, 1)
    os.close(ready)
    os.close(told)


@command
def mark(path):
    with open(path, "a") as f:
        f.write("executed\n")


@command
def mark_then_exit(path):
    mark(path)
    os._exit(8)


@command
def exit_at_first(path, times=1):
    """End the process so many times, then succeed with the number of executions."""
    mark(path)
    with open(path) as f:
        executed = len(f.readlines())
    if executed <= times:
        os._exit(8)
    return executed


@command
def careful(ms, path):
    try:
        time.sleep(ms / 1000)
    finally:
        with open(path, "a") as f:
            f.write("cleaned up\n")


@command
def fail(text):
    raise ValueError(text)


@command
def burn():
    """Stay inside one C call, deaf to signals."""
    return len(str(3 ** (10 ** 8)))


@command
def freeze():
    os.kill(os.getpid(), signal.SIGSTOP)


@command
def end(how, code=0):
    if how == "sys.exit":
        sys.exit(code)
    if how == "os._exit":
        os._exit(code)
    os.kill(os.getpid(), getattr(signal, how))
    time.sleep(60)


@command
def child():
    return subprocess.Popen(["sleep", "600"]).pid


@command
def stray_then_exit(path):
    """Leave a process that is out of the group and holds the protocol pipes, then die."""
    if ctypes.CDLL(None).fork() == 0:
        os.setsid()
        with open(path + ".new", "w") as f:
            f.write(str(os.getpid()))
        os.rename(path + ".new", path)
        time.sleep(600)
    while not os.path.exists(path):
        time.sleep(0.005)
    os._exit(7)


@command
def unsolicited(after_ms, path):
    """Write a frame that nobody asked for, some time after the reply, and then the file at path."""
    reply = reply_fd()

    def write():
        os.write(reply, bytes(28))
        open(path, "x").close()

    threading.Timer(after_ms / 1000, write).start()


@command
def garbage(length):
    os.write(reply_fd(), os.urandom(length))
    time.sleep(60)


@command
def shout(lines):
    for _ in range(lines):
        os.write(2, b"x" * 99 + b"\n")
    print("done")


@command
def environment():
    return {"environ": dict(os.environ), "cwd": os.getcwd(), "path": sys.path[0]}


@command
def orphan():
    """Leave a short-lived process to whoever adopts orphans."""
    subprocess.run(["sh", "-c", "sleep 0.05 &"])


@command
def zombies():
    count = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as f:
                count += f.read().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            pass
    return count


@command
def show(**arguments):
    """The arguments, after which the handler spoils them."""
    seen = {"pid": os.getpid(), "arguments": json.dumps(arguments, sort_keys=True)}
    for value in arguments.values():
        if isinstance(value, list):
            value.append("spoilt")
    return seen


@command
def blame(kind, text):
    raise getattr(poolworker, kind)(text)


@command
def context():
    return list(poolworker.context())


@command(name="codec")
def codec_in_use():
    return poolworker.codec.name


@command
def remaining():
    return poolworker.deadline()


@command
def answer_at_deadline(value, after_ms):
    """Answer so long after the deadline, or before it if that is negative."""
    time.sleep(max(0, poolworker.deadline() + after_ms / 1000))
    return value


@command
def items(n, path=None, then=None, size=0):
    """Yield 0 to n - 1, each other one as a text of that size; path gets a line before each, another file one at the end.

    then: what comes after them; or a path, to wait for.
    """
    try:
        for i in range(n):
            if path:
                mark(path)
            yield "x" * size if size and i % 2 else i
        if then == "raise":
            raise ValueError("after the items")
        if then == "sleep":
            time.sleep(60)
        if then:
            hold(then)
    finally:
        if path:
            mark(path + ".closed")


@command
async def items_async(n, path=None, then=None):
    try:
        for i in items(n):
            yield i
            await asyncio.sleep(0)
        if then == "sleep":
            await asyncio.sleep(60)
    finally:
        if path:
            mark(path + ".closed")


@command
def flood(n):
    """Yield one item, which is sent as often as that, whatever the credit."""
    write = Channel.write

    def write_often(channel, data):
        for _ in range(n if data[4] == frames.CHUNK else 1):
            write(channel, data)

    Channel.write = write_often
    yield "flood"
