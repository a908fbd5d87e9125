"""What a handler can ask about the request that it serves."""

from __future__ import annotations

from typing import Final, NamedTuple

ANONYMOUS: Final = "anonymous"


class Context(NamedTuple):
    """The request that a handler serves."""

    session: str = ANONYMOUS
    """Id of the session that the caller named; "anonymous" when it named none."""
    program: str = ""
    """Id of the program that is executed; "" for a plain command."""


_current = Context()


def context() -> Context:
    """Return what is known of the request that is served now; outside of a worker that is Context()."""
    return _current


def enter(session: str, program: str) -> None:
    """Begin a request. A worker serves one at a time."""
    global _current
    _current = Context(session or ANONYMOUS, program)
