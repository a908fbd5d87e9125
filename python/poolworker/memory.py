"""Memory that a worker shares with its supervisor: large payloads lie in it, and their frames name only the size.

It is one file, which holds a request until it is copied here, and then its result. Its size is fixed by the kernel, so
that neither side can take the other's pages away; which of them it keeps is the supervisor's business.
"""

from __future__ import annotations

from os import close, fstat, register_at_fork
from struct import Struct
from typing import Final, Optional

from poolworker.frames import FLAG_MEMORY, RESULT, ProtocolError, encode, encode_reply

try:
    from mmap import mmap
except ImportError:  # a Python that was built without it
    mmap = None  # type: ignore[assignment, misc]

_REFERENCE: Final = Struct(">I")


class Memory:
    """The worker's end of it. After close (also in a forked child) nothing can be read or written."""

    def __init__(self, fd: int) -> None:
        """Take the file, which is mapped by open."""
        self._fd = fd
        self._map: Optional[mmap] = None
        self._size = 0
        register_at_fork(after_in_child=self.close)

    def open(self) -> bool:
        """Map the file and let go of it; returns whether it could be mapped."""
        fd, self._fd = self._fd, -1
        try:
            size = fstat(fd).st_size
            if mmap is None or size == 0:
                return False
            self._map, self._size = mmap(fd, size), size
        except OSError:  # no address space left, or a kernel that won't
            return False
        finally:
            close(fd)
        return True

    def close(self) -> None:
        """Unmap it, or close what wasn't mapped. Idempotent."""
        if self._fd >= 0:
            close(self._fd)
            self._fd = -1
        if self._map is not None:
            self._map.close()
            self._map = None

    def fetch(self, reference: bytes, max_payload: int) -> bytes:
        """Copy a request's payload. Raises ProtocolError for a reference that isn't one, or is beyond the limit."""
        if len(reference) != _REFERENCE.size or self._map is None:
            raise ProtocolError(f"a reference of {len(reference)} bytes to memory")
        size: int = _REFERENCE.unpack(reference)[0]
        if size > min(max_payload, self._size):
            raise ProtocolError(f"payload of {size} bytes in memory, at most {min(max_payload, self._size)}")
        return self._map[:size]

    def encode_reply(self, kind: int, generation: int, id: int, payload: bytes, meta: bytes = b"") -> bytes:
        """Encode a frame whose payload, a result's, is left in memory. What it has no room for goes into the frame."""
        if kind != RESULT or len(payload) > self._size or self._map is None:
            return encode_reply(kind, generation, id, payload, meta)
        self._map[: len(payload)] = payload
        return encode(kind, generation, id, _REFERENCE.pack(len(payload)), meta, flags=FLAG_MEMORY)
