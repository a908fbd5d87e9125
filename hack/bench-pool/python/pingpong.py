"""Echoes frames from descriptor 3 to descriptor 4: four bytes of length, then a payload. Argument: bytes, json or sleep."""

import os
import sys
import time

CHUNK = 64 << 10  # what a pipe holds


def main(answer):
    while True:
        data = os.read(3, CHUNK)
        if not data:
            return
        total = 4 + int.from_bytes(data[:4], "big")
        if len(data) < total:
            data = read_rest(data, total)
        write(answer(data))


def read_rest(data, total):
    buffer = bytearray(total)
    have = len(data)
    buffer[:have] = data
    view = memoryview(buffer)
    while have < total:
        got = os.readv(3, [view[have:]])
        if not got:
            sys.exit("the pipe ended inside a frame")
        have += got
    return bytes(buffer)


def write(data):
    written = os.write(4, data)
    if written != len(data):
        rest = memoryview(data)[written:]
        while rest:
            rest = rest[os.write(4, rest) :]


def answer_json(frame):
    payload = codec.encode_result("echo", codec.decode_arguments(frame[4:])["value"])
    return len(payload).to_bytes(4, "big") + payload


def answer_late(frame):
    time.sleep(0.010)
    return frame


if __name__ == "__main__":
    if sys.argv[1] == "json":
        from poolworker import codec

        main(answer_json)
    else:
        main(answer_late if sys.argv[1] == "sleep" else lambda frame: frame)
