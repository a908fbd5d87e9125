"""A module whose workers can be forked, unless its environment has it leave something behind in the import."""

import atexit
import ctypes
import logging
import os
import random
import secrets
import socket
import subprocess
import sys
import threading
import time
import uuid

import poolworker
from poolworker import command, preload, worker_start, worker_stop

logging.basicConfig(format="logged %(process)d %(message)s")

happened = []
connection = None
kept = None

if "FORKABLE_HEAVY" in os.environ:  # what a real module has: many imports, some data
    import asyncio, decimal, email.message, http.client, logging.config, sqlite3, ssl, unittest.mock, urllib.request  # noqa: E401

    table = [{"id": i, "name": f"entry {i}"} for i in range(100_000)]
if "FORKABLE_SLEEP" in os.environ:
    time.sleep(float(os.environ["FORKABLE_SLEEP"]))
if "FORKABLE_FAIL" in os.environ:
    raise RuntimeError("this import fails")


@preload
def warm_up():
    happened.append(f"preload in {os.getpid()} as {poolworker.worker_id()!r}")
    print(f"preload in {os.getpid()}")
    if "FORKABLE_SERVER" in os.environ:
        ask("warm-up")
        if "FORKABLE_KEEP" not in os.environ:
            close()
    leave(os.environ.get("FORKABLE_LEAVE", ""))
    sys.stdout.write("half a line")  # must not be written once more by each worker


def hang(*_, **__):
    threading.Event().wait()


def leave(what):
    global kept
    if what == "thread":
        threading.Thread(target=threading.Event().wait, name="pump", daemon=True).start()
    elif what == "ending thread":
        threading.Thread(target=time.sleep, args=(0.5,), name="short").start()
    elif what == "child":
        kept = subprocess.Popen(["sleep", "600"])
    elif what == "socketpair":
        kept = socket.socketpair()
    elif what == "patched":  # as gevent does: what waits or forks goes to a loop of its own
        os.fork = os.waitpid = time.sleep = threading.enumerate = hang
    elif what == "listener":
        kept = socket.create_server(("127.0.0.1", 0))
    elif what == "native thread":
        import _thread

        _thread.start_new_thread(time.sleep, (600,))
    elif what == "fork that hangs":
        os.register_at_fork(before=lambda: time.sleep(600))
    elif what == "fork whose child hangs":
        os.register_at_fork(after_in_child=hang)
    elif what == "child that hangs":
        logging.getLogger("deaf").addHandler(Deaf(os.devnull, "a"))
    elif what == "fork that dies":
        os.register_at_fork(before=lambda: os._exit(9))
    elif what == "child that dies":
        os.register_at_fork(after_in_child=lambda: as_worker(os._exit, 9))
    elif what == "fork that isn't there":
        from poolworker import forking

        forking.fork = no_fork
    elif what == "broken hook":
        raise RuntimeError("this hook fails")


class Deaf(logging.FileHandler):
    """Hangs where a forked worker opens its log files anew."""

    pid = os.getpid()

    def _open(self):
        if os.getpid() != self.pid:
            time.sleep(600)
        return super()._open()


def as_worker(act, argument):
    """Act in the process that is to be the worker: a grandchild of the one that forks."""
    if os.environ.get("FORKABLE_DEPTH") == "1":
        act(argument)
    os.environ["FORKABLE_DEPTH"] = "1"


def no_fork():
    raise BlockingIOError(11, "Resource temporarily unavailable")


@worker_start
async def begin():
    happened.append(f"worker_start in {os.getpid()} as {poolworker.worker_id()!r}")
    if "FORKABLE_START_FAILS" in os.environ:
        raise RuntimeError("this start fails")


@worker_stop
def finish():
    print(f"worker_stop in {os.getpid()}")


atexit.register(lambda: print(f"atexit in {os.getpid()}"))


def ask(text):
    """The answer of the server, over a connection that is opened once."""
    global connection
    if connection is None:
        host, _, port = os.environ["FORKABLE_SERVER"].rpartition(":")
        connection = socket.create_connection((host, int(port)))
    connection.sendall(text.encode() + b"\n")
    answer = b""
    while not answer.endswith(b"\n"):
        answer += connection.recv(100)
    return answer.decode().strip()


def close():
    global connection
    connection.close()
    connection = None


@command
def echo(value):
    return value


@command
def asked(text):
    return ask(text)


@command
def who():
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "group": os.getpgid(0),
        "id": poolworker.worker_id(),
        "variable": os.environ["WORKERPOOL_WORKER"],
        "happened": happened,
        "oom": open("/proc/self/oom_score_adj").read().strip(),
    }


@command
def numbers():
    drawn = [random.random(), secrets.token_hex(8), str(uuid.uuid4()), random.getrandbits(64)]
    if "numpy" in sys.modules:
        drawn.append(sys.modules["numpy"].random.random())
    return [str(number) for number in drawn]


@command
def log(text):
    print(f"printed {os.getpid()} {text}")
    logging.warning(text)


@command
def end(code):
    os._exit(code)


@command
def spin(path):
    open(path, "w").close()
    while True:
        pass


@command
def stray(path):
    """Leave a process that is in no group of the worker's and was never started anew."""
    if ctypes.CDLL(None).fork() == 0:
        os.setsid()
        with open(path + ".new", "w") as file:
            file.write(str(os.getpid()))
        os.rename(path + ".new", path)
        time.sleep(600)

