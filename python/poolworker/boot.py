"""Importing the user's module."""

from __future__ import annotations

import sys
from importlib import import_module
from os import getcwd
from os.path import abspath, dirname, isdir
from typing import List, Optional, Sequence

from poolworker import codec, standard
from poolworker.codecs import VARIABLE
from poolworker.commands import Registry, registry
from poolworker.errors import Failure, describe, kind, summary, where


def prepend_path(directories: Sequence[str]) -> None:
    """Put directories in front of sys.path, in their order; none: the working directory.

    This package's own directory goes last, so that it hides nothing of the user's. What poolworker has imported of
    the standard library hides nothing either.
    """
    own = dirname(dirname(abspath(__file__)))
    front = [abspath(directory) for directory in directories] or [getcwd()]
    sys.path[:] = front + [entry for entry in sys.path if entry not in front and entry != own] + [own]
    standard.give_way()


def load(module: str) -> Registry:
    """Import module and return the commands that it registered.

    Raises Failure(worker_boot_failed) when the import raises, when no command is there, when a command can't be served,
    and when the environment asks for a codec that isn't there. The text depends on the failure alone (no pid, no
    address, no time), so that equal failures show equal tracebacks.
    """
    if codec.problem:
        raise boot_failure(module, f"the environment variable {VARIABLE}: {codec.problem}")
    sys.argv[:] = [module]  # a module that reads its arguments has none: they were the worker's
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[:] = [sys.executable, "-m", module]
    try:
        import_module(module)
    except BaseException as error:  # noqa: BLE001 - also sys.exit(): the worker must answer before it ends
        raise boot_failure(module, _import_message(module, error), error) from None
    problems = registry.problems()
    if not registry.commands:
        problems = [f"module {module} registers no command; decorate at least one function with @command"]
    if problems:
        raise boot_failure(module, "; ".join(problems))
    for command in registry.commands.values():
        command.compile()
    return registry


def boot_failure(module: str, message: str, error: Optional[BaseException] = None) -> Failure:
    """Build the answer to an Init that can't be served. error: what the import raised, if it did."""
    return Failure(
        "system_error",
        "worker_boot_failed",
        message,
        module=module,
        exception="" if error is None else kind(error),
        traceback="" if error is None else describe(error, module.partition(".")[0]),
    )


def _import_message(module: str, error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name and _is_prefix(error.name, module):
        return (
            f"module {module} isn't there: no {error.name} in {_searched()}; "
            "correct spec.worker.module, or the image's WORKDIR or PYTHONPATH"
        )
    if isinstance(error, ModuleNotFoundError):
        return f"importing {module} failed: {summary(error)}; is it installed for {sys.executable}?"
    return f"importing {module} failed: {reason(error, module)}"


def reason(error: BaseException, module: str) -> str:
    """What an exception says; of a SystemExit, which says next to nothing, also who raised it."""
    place = where(error, module.partition(".")[0]) if isinstance(error, SystemExit) else ""
    return f"{summary(error)}, raised at {place}" if place else summary(error)


def _is_prefix(name: str, module: str) -> bool:
    return module == name or module.startswith(name + ".")


def _searched() -> str:
    """The directories of sys.path that can be the user's: not the standard library, not this package."""
    own = dirname(dirname(abspath(__file__)))
    names: List[str] = []
    for entry in sys.path:
        if isdir(entry) and entry != own and not standard.is_home(entry):
            names.append(entry)
    return ", ".join(names) or "an empty sys.path"
