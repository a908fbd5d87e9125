"""A fork that hangs, or fails, is said to; nothing is left of it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from harness import INSTALLED, PATIENCE

HANGS = """
import os, sys, threading, time
sys.path.insert(0, sys.argv[1])
from poolworker import forking
forking.PATIENCE = 0.3
stage = 0
def child():
    global stage
    stage += 1
    if stage == int(sys.argv[2]):
        if sys.argv[3] == "hangs": threading.Event().wait()
        os._exit(1)
os.register_at_fork(after_in_child=child)
try:
    forking.fork_orphan(time.monotonic())
except (forking.StuckError, OSError) as error:
    print(type(error).__name__)
with open(f"/proc/self/task/{os.getpid()}/children") as children:
    print(children.read() or "nothing is left")
"""


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize(("how", "error"), [("hangs", "StuckError"), ("ends", "OSError")])
def test_p102_a_fork_that_does_not_end_is_refused(stage: int, how: str, error: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGS, INSTALLED, str(stage), how],
        stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    assert done.stdout == f"{error}\nnothing is left\n"
