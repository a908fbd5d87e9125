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


_session = _program = b""


def context() -> Context:
    """Return what is known of the request that is served now; outside of a worker that is Context()."""
    return Context(_session.decode("utf-8", "replace") or ANONYMOUS, _program.decode("utf-8", "replace"))


def enter(session: bytes, program: bytes) -> None:
    """Begin a request, with the ids as they came: most handlers never ask. A worker serves one at a time."""
    global _session, _program
    _session, _program = session, program
