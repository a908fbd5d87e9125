"""Handlers that don't come to an end, each in its own way; and all that fixture has."""

import asyncio
import subprocess
import time

import fixture  # noqa: F401 - its commands
from poolworker import command


@command
def nap():
    deeper()


def deeper():
    time.sleep(600)  # nap


@command
def loop_in_python():
    while True: pass  # fmt: skip  # loop_in_python


@command
def loop_in_c():
    return sum(range(10**13))  # loop_in_c


@command
def swallow():
    while True:
        try:
            time.sleep(600)  # swallow
        except:  # noqa: E722
            pass


@command
async def suspended():
    await wait()


async def wait():
    await asyncio.sleep(600)  # suspended


@command
async def hold_up():
    await asyncio.sleep(0)
    time.sleep(600)  # hold_up


@command
def secretive(key):
    token = "token-" + key
    nap(**{"k": token} if token == key else {})


GRANDCHILD = """
trap 'echo SIGTERM of the grandchild >> "$0"' TERM
echo up $$ >> "$0"
while :; do sleep 0.02; done
"""


@command
def deaf(path):
    """Note what comes in the file, and go on; so does a process that it has started."""
    with subprocess.Popen(["sh", "-c", GRANDCHILD, path]):
        while True:
            try:
                time.sleep(600)
            except BaseException as error:
                with open(path, "a") as f:
                    f.write(f"{type(error).__name__} {time.monotonic()}\n")
