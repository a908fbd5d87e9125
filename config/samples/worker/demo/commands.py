"""Commands to see a pool work, and to see it bear trouble.

Work: echo, sleep, sleep_async, compute, who. Trouble on request: fail, hang, crash, leak, noise.

Trouble for a whole revision comes from its environment, so that a "bad version" is this module with another `env`:

    FAIL_RATE=0.3     that part of all work (echo, sleep, sleep_async, compute) raises DemoFailure
    FAIL_COMMAND=echo that command raises DemoFailure, each time
    SLOW_MS=20        all work takes that much longer, milliseconds
    HANG_RATE=0.01    that part of all work never ends
    CRASH_RATE=0.01   that part of all work ends its process with SIGSEGV
    CRASH=1           all work does: CRASH_RATE=1
    LEAK_MB=1         all work leaves that much memory behind, MiB
    IMPORT_FAIL=1     importing the module raises

Rates are parts of 1 and default to 0. Which requests are hit is chance, as it is in life.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from typing import Any, Dict, List

from poolworker import command, worker_id


def _is_set(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


FAIL_COMMAND = os.environ.get("FAIL_COMMAND", "")
FAIL_RATE = float(os.environ.get("FAIL_RATE", "0"))
SLOW_MS = float(os.environ.get("SLOW_MS", "0"))
HANG_RATE = float(os.environ.get("HANG_RATE", "0"))
CRASH_RATE = 1.0 if _is_set("CRASH") else float(os.environ.get("CRASH_RATE", "0"))
LEAK_MB = int(os.environ.get("LEAK_MB", "0"))

if _is_set("IMPORT_FAIL"):
    raise RuntimeError("IMPORT_FAIL is set: this revision can't start")

_leaked: List[bytearray] = []


class DemoFailure(Exception):
    """The failure that FAIL_RATE, FAIL_COMMAND and the command fail ask for."""


def _trouble(command_name: str) -> None:
    """What the environment asks of every piece of work."""
    if LEAK_MB:
        leak(LEAK_MB)
    if SLOW_MS:
        time.sleep(SLOW_MS / 1000)
    if HANG_RATE and random.random() < HANG_RATE:
        hang()
    if CRASH_RATE and random.random() < CRASH_RATE:
        crash("segv")
    if FAIL_COMMAND == command_name:
        raise DemoFailure(f"FAIL_COMMAND is {FAIL_COMMAND}")
    if FAIL_RATE and random.random() < FAIL_RATE:
        raise DemoFailure(f"FAIL_RATE is {FAIL_RATE}")


@command
def echo(**payload: Any) -> Dict[str, Any]:
    """Return the arguments, whatever they are."""
    _trouble("echo")
    return payload


@command
def sleep(ms: float = 10) -> Dict[str, Any]:
    """Wait that many milliseconds, as a call to another service would."""
    _trouble("sleep")
    time.sleep(ms / 1000)
    return {"slept_ms": ms, "worker": worker_id()}


@command
async def sleep_async(ms: float = 10) -> Dict[str, Any]:
    """Wait that many milliseconds on the event loop."""
    _trouble("sleep_async")
    await asyncio.sleep(ms / 1000)
    return {"slept_ms": ms, "worker": worker_id()}


@command
def compute(ms: float = 10) -> Dict[str, Any]:
    """Burn that many milliseconds of CPU time."""
    _trouble("compute")
    end = time.process_time() + ms / 1000
    rounds = 0
    while time.process_time() < end:
        rounds += 1
    return {"burned_ms": ms, "rounds": rounds, "worker": worker_id()}


@command
def who() -> Dict[str, Any]:
    """Which worker answers."""
    return {"worker": worker_id(), "pid": os.getpid(), "uid": os.getuid(), "python": sys.version.split()[0]}


@command
def fail(message: str = "asked to fail") -> None:
    """Raise."""
    raise DemoFailure(message)


@command
def hang(busy: bool = False) -> None:
    """Never return: asleep, or burning CPU in a loop."""
    while True:
        if not busy:
            time.sleep(3600)


@command
def crash(how: str = "segv", status: int = 1) -> None:
    """End the process: `segv` and `kill` by that signal, `exit` with os._exit(status), `sys.exit` with sys.exit(status)."""
    sys.stdout.flush()
    if how == "exit":
        os._exit(status)
    if how == "sys.exit":
        sys.exit(status)
    ends = {"segv": signal.SIGSEGV, "kill": signal.SIGKILL}
    if how not in ends:
        raise ValueError(f"how must be segv, kill, exit or sys.exit, not {how}")
    os.kill(os.getpid(), ends[how])


@command
def leak(mb: int = 10) -> Dict[str, Any]:
    """Keep that many MiB of memory, touched so that it counts."""
    _leaked.append(bytearray(b"\x01") * (mb << 20))
    return {"leaked_mb": sum(map(len, _leaked)) >> 20, "worker": worker_id()}


@command
def noise(lines: int = 1, text: str = "noise") -> Dict[str, Any]:
    """Write to stdout in every way there is; none may reach the caller."""
    for _ in range(lines):
        print(text)
        os.write(1, text.encode() + b"\n")
        subprocess.run([sys.executable, "-c", "print('noise from a child process')"], check=True)
    return {"lines": lines}
