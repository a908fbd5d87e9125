"""What a forked worker renews, so that it shares no state with its siblings.

Nothing is needed for `random` (Python seeds it anew in each forked process), `secrets`, `uuid4`, `os.urandom` and
`tempfile`. What poolworker can't know is a module's own generator: random.Random(), numpy.random.default_rng().
"""

from __future__ import annotations

import sys
import traceback
from functools import partial
from typing import Any, Callable, List


def flush() -> None:
    """Before a fork: write what is buffered, so that no worker writes it again."""
    for file in (sys.stdout, sys.stderr):
        _attempt(file.flush)
    for handler in _handlers():
        _attempt(handler.flush)


def renew() -> None:
    """In the forked worker: other numbers, and log files of its own."""
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        _attempt(lambda: numpy.seed())
    for handler in _handlers():
        _attempt(partial(_reopen, handler))


def _handlers() -> List[Any]:
    """All handlers of the logging module, if anyone has imported it. It renews their locks itself."""
    references = getattr(sys.modules.get("logging"), "_handlerList", [])
    return [handler for handler in (reference() for reference in references) if handler is not None]


def _reopen(handler: Any) -> None:
    """Open an appended file anew: what was open before the fork is one file for all workers."""
    logging = sys.modules["logging"]
    if isinstance(handler, logging.FileHandler) and "a" in handler.mode and handler.stream is not None:
        handler.stream.close()
        handler.stream = handler._open()


def _attempt(act: Callable[[], Any]) -> None:
    """A user's handler or generator that fails is in the log; the worker starts all the same."""
    try:
        act()
    except Exception:  # noqa: BLE001
        traceback.print_exc()
