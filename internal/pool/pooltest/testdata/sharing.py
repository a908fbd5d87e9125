"""What requests of one worker do beside each other; and all that fixture has."""

import asyncio
import os

import fixture  # noqa: F401 - its commands
from poolworker import command

inside = 0
counted = 0


@command
async def meet(n):
    """Return once n requests are inside."""
    global inside
    inside += 1
    while inside < n:
        await asyncio.sleep(0.001)
    return os.getpid()


@command
async def wait_for(path, cleanup=None, deaf=False):
    """Return once path is there; deaf to being cancelled, if so wished."""
    if cleanup:
        open(cleanup + ".begun", "w").close()
    try:
        while not os.path.exists(path):
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                if not deaf:
                    raise
    finally:
        if cleanup:
            open(cleanup, "w").close()
    return os.getpid()


@command
async def late(ms, value):
    """Answer after so long, also when it is cancelled."""
    try:
        await asyncio.sleep(ms / 1000)
    except asyncio.CancelledError:
        await asyncio.sleep(0.002)
    return value


@command
async def count():
    """The process, and how many times this was called in it."""
    global counted
    counted += 1
    await asyncio.sleep(0.002)
    return [os.getpid(), counted]
