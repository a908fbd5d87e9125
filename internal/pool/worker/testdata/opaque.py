"""Commands whose arguments and results are bytes, as they come: the codec is put out of the way."""

import os
import time

from poolworker import codec, command

codec.decode_arguments = lambda payload: {"payload": payload}
codec.encode_result = lambda _command, value: value


@command
def echo(payload):
    return payload


@command
def take(payload):
    return b"1"


_made = {}


@command
def give(payload):
    """As many bytes as the payload's digits say."""
    if payload not in _made:
        _made[payload] = b"x" * int(payload)
    return _made[payload]


@command
def hang(payload):
    time.sleep(600)


@command
def cut(payload):
    """Find the shared memory among all open files, and try to shrink it."""
    refused = 0
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            if "memfd:" not in os.readlink(f"/proc/self/fd/{fd}"):
                continue
        except OSError:
            continue
        try:
            os.ftruncate(fd, 0)
        except PermissionError:
            refused += 1
    return b"%d refused" % refused
