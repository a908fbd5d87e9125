"""What a forked worker renews, so that it shares no state with its siblings.

Nothing is needed for `random` (Python seeds it anew in each forked process), `secrets`, `uuid4`, `os.urandom` and
`tempfile`. What poolworker can't know is a module's own generator: random.Random(), numpy.random.default_rng().
"""

from __future__ import annotations

import sys
from functools import partial
from gc import get_objects
from traceback import print_exc
from typing import Any, Callable, List
from weakref import finalize, ref

from poolworker import endings, libc
from poolworker.standard import First


class Inherited:
    """Files that were opened before any fork: what is buffered in them is the zygote's to write, once."""

    def __init__(self) -> None:
        self._files: List[ref[Any]] = []
        self._temporary: List[ref[Any]] = []

    def note(self) -> None:
        """Note them, before gc.freeze hides them."""
        self._files = [ref(file) for file in endings.writers()]
        closer = getattr(sys.modules.get("tempfile"), "_TemporaryFileCloser", None)
        if closer is not None:
            self._temporary = [ref(each) for each in get_objects() if type(each) is closer]

    def flush(self) -> None:
        """Before a fork: write what is buffered, so that no worker writes it again."""
        for file in (sys.stdout, sys.stderr):
            _attempt(file.flush)
        for handler in _handlers():
            _attempt(handler.flush)
        for reference in self._files:
            inherited = reference()
            if inherited is not None and not inherited.closed:
                endings.flush(inherited)
        libc.flush()

    def disown(self) -> None:
        """In the forked worker: leave temporary files and directories to those that share them, at this one's end."""
        for reference in self._temporary:
            inherited = reference()
            if inherited is not None:
                inherited.delete = False
        directory = getattr(sys.modules.get("tempfile"), "TemporaryDirectory", None)
        cleanup = getattr(getattr(directory, "_cleanup", None), "__func__", finalize)
        for finalizer in list(getattr(finalize, "_registry", ())):
            what = finalizer.peek()
            if what is not None and getattr(what[1], "__func__", None) is cleanup:
                finalizer.detach()


def renew() -> None:
    """In the forked worker: other numbers, log files of its own, and a loop of gevent's."""
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        _attempt(lambda: numpy.seed())
    for handler in _handlers():
        _attempt(partial(_reopen, handler))
    gevent = sys.modules.get("gevent")
    if gevent is not None and hasattr(gevent, "reinit"):  # its loop; what it makes of os.fork does that too
        _attempt(gevent.reinit)


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
        with First():
            print_exc()
