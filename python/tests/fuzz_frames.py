"""The decoder of frames against mutations of the shared vectors, for FUZZ_SECONDS; hack/fuzz.sh runs it.

What Go's FuzzReader_P42 asks: only errors with a name, no room beyond the limit, and what is read encodes to the same
bytes. FUZZ_SEED runs the one input again that a failure names.
"""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import List

from poolworker.frames import Channel, ProtocolError, encode

VECTORS = Path(__file__).resolve().parents[2] / "internal" / "frame" / "testdata" / "vectors.json"
MOST = 60_000
"""Bytes of an input: what a pipe takes with nobody reading."""


def corpus() -> List[bytes]:
    groups = json.loads(VECTORS.read_text(encoding="utf-8"))
    return [bytes.fromhex(vector["hex"]) for group in ("valid", "invalid") for vector in groups[group]]


def mutated(chance: random.Random, seeds: List[bytes]) -> bytes:
    """Some vectors in a row, with bits flipped, fields overwritten, pieces left out and put in."""
    data = bytearray(b"".join(chance.choices(seeds, k=chance.randrange(1, 4))))[:MOST]
    for _ in range(chance.randrange(6)):
        at = chance.randrange(len(data) + 1)
        how = chance.randrange(4)
        if how == 0 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif how == 1:
            data[at : at + 4] = chance.choice([0, 1, 23, 24, 28, 1 << 16, 1 << 31, (1 << 32) - 1]).to_bytes(4, "big")
        elif how == 2:
            del data[at : at + chance.randrange(1, 40)]
        else:
            data[at:at] = chance.randbytes(chance.randrange(1, 40))
    return bytes(data[:MOST])


def check(data: bytes, limit: int) -> int:
    """Read data to its end, and return how many frames were in it."""
    read_fd, write_fd = os.pipe()
    os.write(write_fd, data)
    os.close(write_fd)
    channel = Channel(read_fd, -1, limit)
    rest, frames = data, 0
    try:
        while True:
            frame = channel.read()
            if frame is None:
                assert rest == b""
                return frames
            kind, generation, id, budget, meta, payload, flags = frame
            encoded = encode(kind, generation, id, payload, meta, budget, flags)
            assert len(payload) <= limit
            assert rest[: len(encoded)] == encoded
            rest, frames = rest[len(encoded) :], frames + 1
    except ProtocolError:
        return frames
    finally:
        channel.close()


def test_p42_mutated_frames() -> None:
    seeds, inputs, frames = corpus(), 0, 0
    end = time.monotonic() + float(os.environ.get("FUZZ_SECONDS", "1"))
    first = int(os.environ.get("FUZZ_SEED", time.time_ns()))
    while inputs == 0 or (time.monotonic() < end and "FUZZ_SEED" not in os.environ):
        chance = random.Random(first + inputs)
        data, limit = mutated(chance, seeds), chance.choice([1, 64, 4096, 1 << 24])
        try:
            frames += check(data, limit)
        except BaseException as error:
            raise AssertionError(f"FUZZ_SEED={first + inputs}: {data.hex()} with a limit of {limit}") from error
        inputs += 1
    print(f"{inputs} inputs, {frames} frames read")
