"""The end of a worker in order: what is buffered is written, and what user code holds is finalised, as in any process.

It comes after all atexit hooks and threads of the user's: theirs are registered later, and run before.
"""

from __future__ import annotations

from _io import _IOBase  # type: ignore[attr-defined, unused-ignore]
from atexit import register
from contextlib import suppress
from gc import get_objects, unfreeze
from typing import Any, Iterator

from poolworker.commands import registry
from poolworker.hooks import hooks


def announce() -> None:
    """Have this process end so, and those that are forked from it. Call before user code is imported."""
    register(_finish)


def writers() -> Iterator[Any]:
    """Yield the files that may have something buffered; not those that gc.freeze has hidden.

    A type is asked, never the object: that may be a proxy, which runs the user's code to say what it is.
    """
    for candidate in get_objects():
        if issubclass(type(candidate), _IOBase):
            try:
                if not candidate.closed and candidate.writable():
                    yield candidate
            except Exception:  # noqa: BLE001, S112 - a user's class; a file that is detached
                continue


def flush(file: Any) -> None:
    """Write what a file has buffered. One that fails is as if its process had ended without this."""
    with suppress(Exception):  # a full disk, a pipe that nobody reads, a user's class
        file.flush()


def _finish() -> None:
    """Let go of user code, so that the interpreter finalises it; and write what that might not reach.

    A zygote has frozen what it imported, so that no collection touches it: none finalises it either.
    """
    unfreeze()
    registry.forget()
    hooks.forget()
    for file in list(writers()):
        flush(file)
