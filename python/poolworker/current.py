"""What a handler can ask about the request that it serves."""

from __future__ import annotations

from contextvars import ContextVar
from time import monotonic
from typing import Final, NamedTuple, Optional, Tuple

ANONYMOUS: Final = "anonymous"


class Context(NamedTuple):
    """The request that a handler serves."""

    session: str = ANONYMOUS
    """Id of the session that the caller named; "anonymous" when it named none."""
    program: str = ""
    """Id of the program that is executed; "" for a plain command."""


_session = _program = b""
_budget = 0  # microseconds; 0: no limit
_since = 0.0  # when the request came, on the monotonic clock
# All of these, of one task or thread each, where a worker serves several requests at once. None: it serves one at a
# time, and all that runs in the process, also a thread of the handler's, belongs to that one.
_own: Optional[ContextVar[Tuple[bytes, bytes, int, float]]] = None


def context() -> Context:
    """Return what is known of the request that is served now; outside of a worker that is Context()."""
    session, program, _, _ = _now()
    return Context(session.decode("utf-8", "replace") or ANONYMOUS, program.decode("utf-8", "replace"))


def deadline() -> Optional[float]:
    """Return how many seconds are left of the time that the request has, 0.0 when it is over.

    None: there is no limit, as outside of a worker. At the end the request is given up, whatever the handler does, so
    a client's timeout is best a little less: `client.get(url, timeout=deadline())` fails at the same moment.
    """
    _, _, budget, since = _now()
    return max(0.0, since + budget / 1e6 - monotonic()) if budget else None


def enter(session: bytes, program: bytes, budget: int) -> None:
    """Begin a request, with the ids as they came: most handlers never ask. It has budget microseconds (0: no limit).

    It is the process's own, or after separate the current context's.
    """
    global _session, _program, _budget, _since
    if _own is None:
        _session, _program, _budget, _since = session, program, budget, monotonic()
    else:
        _own.set((session, program, budget, monotonic()))


def separate() -> None:
    """Keep the requests of different tasks and threads apart from now on."""
    global _own
    _own = ContextVar("poolworker request", default=(b"", b"", 0, 0.0))


def _now() -> Tuple[bytes, bytes, int, float]:
    return (_session, _program, _budget, _since) if _own is None else _own.get()
