"""A module whose handlers leave processes behind that have cut every tie with their worker."""

import ctypes
import os
import signal
import subprocess
import sys
import time

from poolworker import command

CLEAN = {"PATH": "/usr/bin:/bin"}

SLEEP = """
import os, signal, sys, time
path = sys.argv[1]
with open(path + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(path + ".new", path)
time.sleep(600)
"""


def program(path):
    return [sys.executable, "-I", "-S", "-c", SLEEP, path]


def clean_environment(path):
    subprocess.Popen(program(path), env=CLEAN)


def own_session(path):
    subprocess.Popen(program(path), env=CLEAN, start_new_session=True)


def daemon(path):
    """As daemons do it: two forks, a session, nothing open, another name, another folder, deaf to signals."""
    first = os.fork()
    if first != 0:
        os.waitpid(first, 0)
        return
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(15, b"[kworker/0:1]", 0, 0, 0)
    os.chdir("/")
    os.closerange(0, 4096)
    os.execve(sys.executable, program(path), {})


def grandchild_of_a_shell(path):
    script = 'setsid env -i "$@" </dev/null >/dev/null 2>&1 &'
    subprocess.run(["sh", "-c", script, "sh", *program(path)], env=CLEAN, check=True)


WAYS = {way.__name__: way for way in (clean_environment, own_session, daemon, grandchild_of_a_shell)}


@command
def detach(way: str, path: str) -> int:
    WAYS[way](path)
    while not os.path.exists(path):
        time.sleep(0.005)
    return os.getpid()


@command
def detach_and_crash(way: str, path: str) -> int:
    detach(way, path)
    os.kill(os.getpid(), signal.SIGSEGV)


@command
def detach_and_hang(way: str, path: str) -> int:
    detach(way, path)
    time.sleep(600)
