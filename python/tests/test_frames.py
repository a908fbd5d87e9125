"""The wire format, against the vectors that Go reads too, and against noise."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import resource
import signal
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest

from poolworker.frames import DEFAULT_MAX_PAYLOAD, FLAG_MEMORY, MAX_META, Channel, Frame, ProtocolError, encode
from poolworker.memory import Memory

VECTORS = Path(__file__).resolve().parents[2] / "internal" / "frame" / "testdata" / "vectors.json"


def vectors(group: str) -> List[Any]:
    entries: List[Dict[str, Any]] = json.loads(VECTORS.read_text(encoding="utf-8"))[group]
    assert entries
    return [pytest.param(entry, id=entry["name"]) for entry in entries]


@contextlib.contextmanager
def stream(
    data: bytes, max_payload: int = DEFAULT_MAX_PAYLOAD, piece: Callable[[], int] = lambda: 1 << 20
) -> Iterator[Channel]:
    """A channel whose other end writes data, in pieces of the sizes that piece() gives, and closes."""
    read_fd, write_fd = os.pipe()
    channel = Channel(read_fd, -1, max_payload)

    def feed() -> None:
        rest = memoryview(data)
        with contextlib.suppress(BrokenPipeError):
            while rest:
                rest = rest[os.write(write_fd, rest[: piece()]) :]
        os.close(write_fd)

    writer = threading.Thread(target=feed)
    writer.start()
    try:
        yield channel
    finally:
        channel.close()
        writer.join()


@contextlib.contextmanager
def memory() -> Iterator[Memory]:
    """Memory of the default limit's size that is full of the letter m."""
    fd = os.memfd_create("test")
    os.ftruncate(fd, DEFAULT_MAX_PAYLOAD)
    os.pwrite(fd, b"m" * DEFAULT_MAX_PAYLOAD, 0)
    with contextlib.closing(Memory(fd)) as memory:
        assert memory.open()
        yield memory


@pytest.mark.parametrize("vector", vectors("valid"))
def test_p32_valid_vectors(vector: Dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    fields = (vector["kind"], vector["generation"], vector["id"])
    meta, payload = bytes.fromhex(vector["meta"]), bytes.fromhex(vector["payload"])
    flags = vector.get("flags", 0)
    assert encode(*fields, payload, meta, vector["budget"], flags) == data
    with stream(data) as channel, memory() as shared:
        if flags & FLAG_MEMORY:
            channel.use_memory(shared.fetch)
            payload = b"m" * vector["memory"]
        assert channel.read() == Frame(*fields, vector["budget"], meta, payload, flags)
        assert channel.read() is None


@pytest.mark.parametrize("vector", vectors("invalid"))
def test_p33_invalid_vectors(vector: Dict[str, Any]) -> None:
    says = {"malformed": "length|flags|budget|reference", "too large": "at most", "truncated": "ended inside a frame"}
    data, limit = bytes.fromhex(vector["hex"]), vector.get("maxPayload", DEFAULT_MAX_PAYLOAD)
    with stream(data, limit) as channel, memory() as shared:
        if "memory" in vector:
            channel.use_memory(shared.fetch)
        with pytest.raises(ProtocolError, match=says[vector["error"]]):
            channel.read()


@pytest.mark.parametrize("vector", vectors("router"))
def test_p68_what_only_a_slot_is_told_is_out_of_step(vector: Dict[str, Any]) -> None:
    with stream(bytes.fromhex(vector["hex"])) as channel, pytest.raises(ProtocolError, match="flags"):
        channel.read()


def test_p32_any_chunking() -> None:
    rng = random.Random(7)
    frames = [
        Frame(
            rng.randrange(256),
            rng.getrandbits(32),
            rng.getrandbits(64),
            rng.getrandbits(50),
            rng.randbytes(m),
            rng.randbytes(p),
        )
        for m, p in [(0, 0), (3, 10), (0, 70_000), (200, 65_508), (1, 1), (0, 300_000), (MAX_META, 5)]
    ]
    data = b"".join(encode(f.kind, f.generation, f.id, f.payload, f.meta, f.budget) for f in frames)
    for most in (1 << 20, 65_536, 4_000, 29):
        with stream(data, piece=lambda most=most: rng.randint(1, most)) as channel:  # type: ignore[misc]
            assert [channel.read() for _ in frames] == frames
            assert channel.read() is None


def test_p42_random_bytes_are_refused_or_read_as_what_they_say() -> None:
    rng = random.Random(42)
    outcomes = {"refused": 0, "read": 0}
    for _ in range(2_000):
        data = bytearray(encode(rng.randrange(12), 1, rng.getrandbits(64), rng.randbytes(rng.randrange(50))))
        for _ in range(rng.randrange(4)):
            data[rng.randrange(min(len(data), 8))] = rng.randrange(256)
        with stream(bytes(data) + rng.randbytes(rng.randrange(30)), 4096) as channel:
            try:
                while channel.read() is not None:
                    outcomes["read"] += 1
            except ProtocolError:
                outcomes["refused"] += 1
    assert outcomes["refused"] > 200
    assert outcomes["read"] > 200


def test_p33_no_room_is_made_for_a_frame_over_the_limit() -> None:
    data = bytearray(encode(6, 1, 1))
    data[:4] = b"\xff\xff\xff\xff"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with (
        stream(bytes(data)) as channel,
        pytest.raises(ProtocolError, match="payload of 4294967271 bytes, at most 16777216"),
    ):
        channel.read()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB


def test_p32_a_signal_in_the_middle_of_a_write_loses_nothing() -> None:
    """The pipe is full when the signal comes, and read only after it."""
    read_fd, write_fd = os.pipe()
    channel, source = Channel(-1, write_fd), Channel(read_fd, -1)
    interrupted = threading.Event()
    received: List[Optional[Frame]] = []

    def read() -> None:
        interrupted.wait(20)
        received.append(source.read())

    reader = threading.Thread(target=read)
    reader.start()
    former = signal.signal(signal.SIGALRM, lambda *_: interrupted.set())
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        channel.write(encode(6, 1, 1, b"x" * (4 << 20)))
    finally:
        signal.signal(signal.SIGALRM, former)
        channel.close()
        reader.join()
        source.close()
    assert received == [Frame(6, 1, 1, 0, b"", b"x" * (4 << 20))]
    assert interrupted.is_set()


def test_meta_that_the_format_cannot_say_is_refused() -> None:
    with pytest.raises(ProtocolError, match="meta of 65536 bytes"):
        encode(5, 1, 1, b"", b"x" * (MAX_META + 1))


def test_closed_channel_neither_reads_nor_writes() -> None:
    channel = Channel(*os.pipe())
    channel.close()
    channel.close()
    for use in (channel.read, lambda: channel.write(b"x")):
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            use()
