"""Hooks: functions of a user's module that run around its commands, in every worker in the same way.

preload        once for each import of the module: in the zygote where there is one, else in each worker
worker_start   in each worker, before its first request
worker_stop    in each worker that ends in order
"""

from __future__ import annotations

import sys
from inspect import signature
from traceback import print_exc
from typing import Any, Callable, Dict, Final, List, Optional, TypeVar

from poolworker import boot
from poolworker.awaitables import is_async_function, is_awaitable
from poolworker.registration import Registration, Site, location
from poolworker.standard import First

Hook = TypeVar("Hook", bound=Callable[[], Any])
Run = Callable[[Callable[[], Any]], Any]

PRELOAD: Final = "preload"
WORKER_START: Final = "worker_start"
WORKER_STOP: Final = "worker_stop"


class Hooks:
    """The hooks of one process, in the order in which they were registered."""

    def __init__(self) -> None:
        self._hooks: Dict[str, List[Registration]] = {PRELOAD: [], WORKER_START: [], WORKER_STOP: []}

    def add(self, moment: str, function: Callable[[], Any], site: Optional[Site] = None) -> None:
        """Add a hook. The same function registered again (its module was loaded again) replaces itself.

        Raises TypeError for what can't be called without arguments, and for a preload that is async.
        """
        _check(moment, function)
        new = Registration(function, site)
        hooks = self._hooks[moment]
        for i, known in enumerate(hooks):
            if new.replaces(known):
                hooks[i] = new
                return
        hooks.append(new)

    def names(self, moment: str) -> List[str]:
        """The names of a moment's hooks."""
        return [_name(hook.function) for hook in self._hooks[moment]]

    def begin(self, moment: str, module: str, run: Run) -> None:
        """Run the hooks of worker_start. Raises Failure(worker_boot_failed) for the first that fails."""
        for hook in self._hooks[moment]:
            try:
                run(hook.function)
            except BaseException as error:  # noqa: BLE001 - also sys.exit(): the supervisor must hear of it
                message = f"the {moment} hook {_name(hook.function)} of {module} failed: {boot.reason(error, module)}"
                raise boot.boot_failure(module, message, error) from None

    def preload(self, module: str) -> None:
        """Run the hooks of preload. Raises Failure(worker_boot_failed) for the first that fails."""
        self.begin(PRELOAD, module, _run_here)

    def stop(self, run: Run) -> None:
        """Run the hooks of worker_stop, the last one first. One that fails is in the log and stops no other."""
        for hook in reversed(list(self._hooks[WORKER_STOP])):
            try:
                run(hook.function)
            except BaseException:  # noqa: BLE001 - the worker ends anyway
                print(f"poolworker: the worker_stop hook {_name(hook.function)} failed:", file=sys.stderr)
                with First():
                    print_exc()

    def forget(self) -> None:
        """Let go of all functions: the worker ends, and what they hold is to be finalised."""
        for hooks in self._hooks.values():
            hooks.clear()


hooks: Final = Hooks()
"""Where the decorators put their functions."""


def preload(function: Hook) -> Hook:
    """Run function after the import of the module, before any worker serves.

    With `worker.preload: Zygote` it runs once, in the process that all workers are forked from: load what they can
    share (models, tables), and leave no thread, no child process and no open connection behind, because a fork would
    share or lose them. Without, it runs in each worker, before worker_start.
    """
    hooks.add(PRELOAD, function, Site.of(sys._getframe(1)))
    return function


def worker_start(function: Hook) -> Hook:
    """Run function in each worker before its first request, forked or spawned. It may be async.

    The place for connections, clients, threads, and random generators of the module's own. A worker whose hook raises
    doesn't start.
    """
    hooks.add(WORKER_START, function, Site.of(sys._getframe(1)))
    return function


def worker_stop(function: Hook) -> Hook:
    """Run function in each worker that ends in order: at its retirement, at SIGTERM, after sys.exit(). It may be async.

    Together with what `atexit` runs it has five seconds. A worker that is killed (a timeout, a crash) runs none.
    """
    hooks.add(WORKER_STOP, function, Site.of(sys._getframe(1)))
    return function


def _check(moment: str, function: Callable[[], Any]) -> None:
    if not callable(function):
        raise TypeError(f"@{moment} needs a function, not {function!r}; it takes no arguments of its own")
    if moment == PRELOAD and is_async_function(function):
        raise _async_preload(function)
    try:
        signature(function).bind()
    except TypeError as error:
        raise TypeError(f"@{moment} calls {location(function)} without arguments: {error}") from None
    except ValueError:  # some builtins have no signature
        return


def _run_here(function: Callable[[], Any]) -> None:
    """Run a hook of preload, which may turn out to be async only now."""
    result = function()
    if is_awaitable(result):
        if hasattr(result, "close"):
            result.close()
        raise _async_preload(function)


def _async_preload(function: Callable[[], Any]) -> TypeError:
    return TypeError(
        f"@preload can't be async ({location(function)}): its event loop would be shared by all workers; "
        "use asyncio.run() inside, or @worker_start"
    )


def _name(function: Callable[[], Any]) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))
