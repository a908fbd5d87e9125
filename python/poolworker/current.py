"""What a handler can ask about the request that it serves."""

from __future__ import annotations

import contextvars
import time
from typing import Final, NamedTuple, Optional, Tuple

ANONYMOUS: Final = "anonymous"


class Context(NamedTuple):
    """The request that a handler serves."""

    session: str = ANONYMOUS
    """Id of the session that the caller named; "anonymous" when it named none."""
    program: str = ""
    """Id of the program that is executed; "" for a plain command."""


_current = Context()
_until: Optional[float] = None  # on the monotonic clock; None: no limit
# Both, of one task or thread each, where a worker serves several requests at once. None: it serves one at a time, and
# all that runs in the process, also a thread of the handler's, belongs to that one.
_own: Optional[contextvars.ContextVar[Tuple[Context, Optional[float]]]] = None


def context() -> Context:
    """Return what is known of the request that is served now; outside of a worker that is Context()."""
    return _current if _own is None else _own.get()[0]


def deadline() -> Optional[float]:
    """Return how many seconds are left of the time that the request has, 0.0 when it is over.

    None: there is no limit, as outside of a worker. At the end the request is given up, whatever the handler does, so
    a client's timeout is best a little less: `client.get(url, timeout=deadline())` fails at the same moment.
    """
    until = _until if _own is None else _own.get()[1]
    return None if until is None else max(0.0, until - time.monotonic())


def enter(session: str, program: str, budget: int) -> None:
    """Begin a request; it has budget microseconds from now (0: no limit).

    It is the process's own, or after separate the current context's.
    """
    global _current, _until
    context = Context(session or ANONYMOUS, program)
    until = time.monotonic() + budget / 1e6 if budget else None
    if _own is None:
        _current, _until = context, until
    else:
        _own.set((context, until))


def separate() -> None:
    """Keep the requests of different tasks and threads apart from now on."""
    global _own
    _own = contextvars.ContextVar("poolworker request", default=(Context(), None))
