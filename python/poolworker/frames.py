"""The wire format between a slot's supervisor and its worker; docs/protocol.md describes it.

offset  size  field        all integers big-endian
0       4     length       bytes that follow this field: 24 + meta + payload
4       1     kind
5       1     flags        those named FLAG_… below, or 0; any other is refused
6       2     meta length
8       4     generation   of the worker
12      8     id           of the request; a reply bears its request's
20      8     budget       remaining time in microseconds; 0: none
28            meta, then payload
"""

from __future__ import annotations

from os import close, read, readv, write
from struct import Struct
from typing import Callable, Final, NamedTuple, Optional, Tuple

HELLO: Final = 1
INIT: Final = 2
PING: Final = 3
PONG: Final = 4
REQUEST: Final = 5
RESULT: Final = 6
ERROR: Final = 7
CANCEL: Final = 8
SHUTDOWN: Final = 9
PROGRAM: Final = 12
FORGET: Final = 13
CHUNK: Final = 15
CREDIT: Final = 16

FLAG_PROGRAM: Final = 1 << 1
"""In a Request: its meta holds the hash of a Program that came before."""
FLAG_CONTEXT: Final = 1 << 2
"""In a Request: its meta holds the ids of session and program."""
FLAG_BATCH: Final = 1 << 3
"""In a Request: its payload has the arguments of many calls."""
FLAG_MEMORY: Final = 1 << 4
"""In a Request or Result: its payload lies in memory; see :mod:`poolworker.memory`. Refused where there is none."""
FLAG_STREAM: Final = 1 << 5
"""In a Request: its result is wanted in Chunks; its meta ends with a limit that is the supervisor's to hold."""
_UNKNOWN_FLAGS: Final = ~(FLAG_PROGRAM | FLAG_CONTEXT | FLAG_BATCH | FLAG_STREAM)

STREAM_WINDOW: Final = 16
"""The credit that every stream begins with."""
CREDIT_UNIT: Final = 4 << 10
"""How many bytes of a Chunk's payload one credit is worth."""

HEADER: Final = Struct(">IBBHIQQ")
HEADER_SIZE: Final = HEADER.size
MAX_META: Final = (1 << 16) - 1
DEFAULT_MAX_PAYLOAD: Final = 16 << 20
MAX_BUDGET: Final = ((1 << 63) - 1) // 1000
"""The largest budget in microseconds: what Go's time.Duration (nanoseconds, signed) can hold."""

_AFTER_LENGTH: Final = HEADER_SIZE - 4
_CREDIT: Final = Struct(">I")
_CHUNK: Final = 64 << 10  # what a pipe holds: a small frame takes one read


class ProtocolError(Exception):
    """The stream is out of step; nothing that follows on it can be trusted."""


class Frame(NamedTuple):
    """One message."""

    kind: int
    generation: int
    id: int
    budget: int
    meta: bytes
    payload: bytes
    flags: int = 0


Fields = Tuple[int, int, int, int, bytes, bytes, int]
"""Those of a Frame, in its order."""


def encode(
    kind: int, generation: int, id: int, payload: bytes = b"", meta: bytes = b"", budget: int = 0, flags: int = 0
) -> bytes:
    """Encode one frame whole. Raises ProtocolError when meta is longer than the format can say."""
    if len(meta) > MAX_META:
        raise ProtocolError(f"meta of {len(meta)} bytes, at most {MAX_META}")
    size = _AFTER_LENGTH + len(meta) + len(payload)
    return HEADER.pack(size, kind, flags, len(meta), generation, id, budget) + meta + payload


def encode_reply(kind: int, generation: int, id: int, payload: bytes, meta: bytes = b"") -> bytes:
    """Encode a frame without budget and flags and with little meta, as those that a worker sends are."""
    size = len(meta)
    return HEADER.pack(_AFTER_LENGTH + size + len(payload), kind, 0, size, generation, id, 0) + meta + payload


def chunk_cost(size: int) -> int:
    """The credit that a Chunk of so many bytes takes: one for each unit that is begun, and at least one."""
    return max(1, -(-size // CREDIT_UNIT))


def credit_of(payload: bytes) -> int:
    """Read how much a Credit gives. Raises ProtocolError."""
    if len(payload) != _CREDIT.size:
        raise ProtocolError(f"a Credit of {len(payload)} bytes instead of {_CREDIT.size}")
    amount: int = _CREDIT.unpack(payload)[0]
    return amount


class Call(NamedTuple):
    """What the meta of a Request holds when it has flags; without any it is the command."""

    command: bytes
    hash: Optional[bytes]  # of its Program; None: a plain command
    session: bytes  # id; empty: anonymous
    program: bytes  # id


def call_of(flags: int, meta: bytes) -> Call:
    """Read a Request's meta, from its end: only the command may have a NUL in it."""
    rest, hash, session, program = meta, None, b"", b""
    if flags & FLAG_STREAM:
        rest = rest.rpartition(b"\0")[0]
    if flags & FLAG_CONTEXT:
        rest, _, program = rest.rpartition(b"\0")
        rest, _, session = rest.rpartition(b"\0")
    if flags & FLAG_PROGRAM:
        rest, _, hash = rest.rpartition(b"\0")
    return Call(rest, hash, session, program)


class Channel:
    """Frames over a pair of file descriptors, which it owns.

    Not safe for concurrent use. After :meth:`close` (also in a forked child) reads and writes fail with EBADF,
    so that a child of a worker can never answer in its parent's place.
    """

    def __init__(self, read_fd: int, write_fd: int, max_payload: int = DEFAULT_MAX_PAYLOAD) -> None:
        """Take both descriptors; frames with more than max_payload bytes of payload are refused."""
        self.max_payload = max_payload
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._unread = b""
        self._fetch: Optional[Callable[[bytes, int], bytes]] = None
        self._unknown_flags = _UNKNOWN_FLAGS

    def use_memory(self, fetch: Callable[[bytes, int], bytes]) -> None:
        """Take requests whose payload lies in memory: fetch copies it, given its reference and its limit in bytes."""
        self._fetch = fetch
        self._unknown_flags = _UNKNOWN_FLAGS & ~FLAG_MEMORY

    def close(self) -> None:
        """Close both descriptors. Idempotent."""
        for fd in (self._read_fd, self._write_fd):
            if fd >= 0:
                close(fd)
        self._read_fd = self._write_fd = -1

    def fileno(self) -> int:
        """Return the descriptor that read reads from."""
        return self._read_fd

    @property
    def buffered(self) -> bool:
        """Whether bytes beyond the last frame have been read already: the next read may return at once."""
        return bool(self._unread)

    def write(self, data: bytes) -> None:
        """Write an encoded frame: one system call unless the pipe takes it in parts."""
        written = write(self._write_fd, data)
        if written != len(data):
            rest = memoryview(data)[written:]
            while rest:
                rest = rest[write(self._write_fd, rest) :]

    def read(self) -> Optional[Frame]:
        """Return the next frame, or None at a clean end of the stream. Raises what receive does."""
        fields = self.receive()
        return None if fields is None else Frame(*fields)

    def receive(self) -> Optional[Fields]:
        """Return the fields of the next frame, or None at a clean end of the stream: read without the names' price.

        Raises ProtocolError for anything else: a malformed or oversized header (before room for the payload is
        made), flags that this version doesn't know, an end inside a frame.
        """
        data = self._unread or read(self._read_fd, _CHUNK)
        if len(data) < HEADER_SIZE:
            if not data:
                return None
            data = self._read_up_to(data, HEADER_SIZE)
        length, kind, flags, meta_length, generation, id, budget = HEADER.unpack_from(data)
        payload_length = length - _AFTER_LENGTH - meta_length
        if not 0 <= payload_length <= self.max_payload or flags & self._unknown_flags or budget > MAX_BUDGET:
            raise ProtocolError(_refusal(length, flags & self._unknown_flags, meta_length, budget, self.max_payload))
        total = length + 4
        if len(data) < total:
            data = self._read_up_to(data, total)
        self._unread = data[total:] if len(data) != total else b""
        body = HEADER_SIZE + meta_length
        if flags & FLAG_MEMORY and self._fetch is not None:
            payload = self._fetch(data[body:total], self.max_payload)
            return kind, generation, id, budget, data[HEADER_SIZE:body], payload, flags
        return kind, generation, id, budget, data[HEADER_SIZE:body], data[body:total], flags

    def _read_up_to(self, data: bytes, size: int) -> bytes:
        """Read until data is exactly size bytes long."""
        buffer = bytearray(size)
        buffer[: len(data)] = data
        view = memoryview(buffer)
        have = len(data)
        while have < size:
            got = readv(self._read_fd, [view[have:]])
            if got == 0:
                raise ProtocolError(f"the stream ended inside a frame, after {have} of {size} bytes")
            have += got
        return bytes(buffer)


def _refusal(length: int, unknown_flags: int, meta_length: int, budget: int, max_payload: int) -> str:
    payload_length = length - _AFTER_LENGTH - meta_length
    if payload_length < 0:
        return f"length {length} with {meta_length} bytes of meta"
    if payload_length > max_payload:
        return f"payload of {payload_length} bytes, at most {max_payload}"
    if unknown_flags:
        return f"flags {unknown_flags:#04x}, which this version doesn't know"
    return f"budget of {budget} µs"
