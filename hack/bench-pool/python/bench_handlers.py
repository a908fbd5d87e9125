"""The handlers that every contestant runs: as commands of a worker, and as plain functions for all others."""

import time

try:
    from poolworker import command
except ImportError:  # a peer's process

    def command(function):
        return function


@command
def echo(value):
    return value


@command
def sleep(value):
    """Wait 10 ms, as for a reply from elsewhere."""
    time.sleep(0.010)
    return value


@command
def burn(value):
    """Compute for 5 ms: of this thread's own CPU time, so that sharing a core doesn't make it less work."""
    end = time.thread_time() + 0.005
    while time.thread_time() < end:
        pass
    return value


BY_NAME = {"echo": echo, "sleep": sleep, "burn": burn}
