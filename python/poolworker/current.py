"""What a handler can ask about the request that it serves."""

from __future__ import annotations

import contextvars
import time
from typing import Final, NamedTuple, Optional

ANONYMOUS: Final = "anonymous"


class Context(NamedTuple):
    """The request that a handler serves."""

    session: str = ANONYMOUS
    """Id of the session that the caller named; "anonymous" when it named none."""
    program: str = ""
    """Id of the program that is executed; "" for a plain command."""


class _Served(NamedTuple):
    context: Context
    until: Optional[float]  # on the monotonic clock; None: no limit


_nothing: Final = _Served(Context(), None)
_current = _nothing
# Of one task or thread each, where a worker serves several requests at once; None: it serves one at a time, and all
# that runs in the process, also a thread of the handler's, belongs to that one.
_own: Optional[contextvars.ContextVar[_Served]] = None


def context() -> Context:
    """Return what is known of the request that is served now; outside of a worker that is Context()."""
    return _served().context


def deadline() -> Optional[float]:
    """Return how many seconds are left of the time that the request has, 0.0 when it is over.

    None: there is no limit, as outside of a worker. At the end the request is given up, whatever the handler does, so
    a client's timeout is best a little less: `client.get(url, timeout=deadline())` fails at the same moment.
    """
    until = _served().until
    return None if until is None else max(0.0, until - time.monotonic())


def _served() -> _Served:
    return _current if _own is None else _own.get()


def enter(session: str, program: str, budget: int) -> None:
    """Begin a request; it has budget microseconds from now (0: no limit).

    It is the process's own, or after separate the current context's.
    """
    global _current
    until = time.monotonic() + budget / 1e6 if budget else None
    served = _Served(Context(session or ANONYMOUS, program), until)
    if _own is None:
        _current = served
    else:
        _own.set(served)


def separate() -> None:
    """Keep the requests of different tasks and threads apart from now on."""
    global _own
    _own = contextvars.ContextVar("poolworker request", default=_nothing)
