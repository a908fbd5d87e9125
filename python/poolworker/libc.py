"""What only the C library can do: ask the kernel for a signal, overwrite the environment, flush C's own buffers.

It is loaded before user code, which may have a ctypes.py.
"""

from __future__ import annotations

from contextlib import suppress
from os import environ
from typing import Any, Final, Optional

_PR_SET_PDEATHSIG: Final = 1

try:
    from ctypes import CDLL, c_char_p, c_void_p, memmove, string_at

    _library: Any = CDLL(None)
    _prctl, _fflush, _getenv = _library.prctl, _library.fflush, _library.getenv
    _getenv.argtypes, _getenv.restype = [c_char_p], c_void_p
except (ImportError, OSError, AttributeError, TypeError):  # no ctypes, not Linux, a static interpreter
    _library = None


def signal_at_parents_end(signal: int) -> bool:
    """Have the kernel send a signal when this process's parent ends; returns whether it could be asked."""
    if _library is None:
        return False
    _prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0)
    return True


def flush() -> None:
    """Write what C code has printed into C's own buffers."""
    if _library is not None:
        _fflush(None)


class Mark:
    """An environment variable whose value /proc shows, also once it is changed.

    /proc/PID/environ is the memory that the process was started with, and a forked process still shows its parent's.
    So the text is overwritten where it stands, which is found before user code can change the environment; the new one
    must not be longer.
    """

    def __init__(self, variable: str) -> None:
        """Find the variable, before it is set for the first time: that would move it."""
        self._variable = variable
        self._address: Optional[int] = None if _library is None else _getenv(variable.encode())
        self._size = len(string_at(self._address)) if self._address else 0

    def set(self, value: str) -> bool:
        """Set it; returns whether /proc shows it."""
        if _library is None or len(value) > self._size:
            return False
        if self._address:
            memmove(self._address, value.encode().ljust(self._size, b"\0"), self._size)
        with suppress(Exception):  # user code may have broken it, and it is for user code
            if environ.get(self._variable) != value:
                environ[self._variable] = value
        return True
