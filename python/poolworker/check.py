"""What `--check` and `--call` show: a module as a worker would load it. 80 columns."""

from __future__ import annotations

import sys
from contextlib import closing, redirect_stdout
from os.path import isdir
from re import sub
from textwrap import fill
from typing import Final, List, Sequence

from poolworker import boot, frames, shared
from poolworker.awaitables import is_async_function
from poolworker.commands import Command, registry
from poolworker.errors import Failure
from poolworker.execute import Executor
from poolworker.hooks import PRELOAD, WORKER_START, WORKER_STOP, hooks

_WIDTH: Final = 80
_NO_FORK: Final = "with `preload: Zygote` workers would be spawned, not forked; start it in @worker_start"


def check(module: str, path: Sequence[str]) -> int:
    """Print what a worker would make of the module; returns 0 when it could serve, else 1."""
    print(f"module  {module}")
    print(f"python  {sys.version.split()[0]} at {sys.executable}")
    boot.prepend_path(path)
    before = _left(0)
    try:
        commands = boot.load(module).commands
        hooks.preload(module)
    except Failure as failure:
        _print_failure(failure)
        return 1
    print(f"file    {getattr(sys.modules[module], '__file__', None) or '(none)'}\n")
    warnings: List[str] = []
    for name in sorted(commands):
        _print_command(commands[name])
        warnings += [f"{name}: {text}" for text in commands[name].unchecked]
    _print_hooks()
    warnings += [f"{what} is left: {_NO_FORK}" for what in _left() if what not in before]
    print()
    for warning in warnings:
        print(_wrap("warning  ", warning))
    print(f"{chr(10) if warnings else ''}ok: {_count(len(commands), 'command')}, {_count(len(warnings), 'warning')}")
    return 0


def call(module: str, path: Sequence[str], name: str, arguments: str) -> int:
    """Run one command and print its result, JSON, on stdout; what the module prints goes to stderr, as in a worker.

    Returns 0, or 1 when the module can't be loaded or the command failed (the reason is on stderr).
    """
    boot.prepend_path(path)
    try:
        with redirect_stdout(sys.stderr):
            result = _call(module, name, arguments)
    except Failure as failure:
        print(f"{failure.category}/{failure.type}: {failure.message}", file=sys.stderr)
        if "commands" in failure.context:
            print(f"the module has {', '.join(failure.context['commands'])}", file=sys.stderr)
        if failure.context.get("traceback"):
            print(failure.context["traceback"], file=sys.stderr)
        return 1
    print(result.decode())
    return 0


def _call(module: str, name: str, arguments: str) -> bytes:
    """One worker's life with one request in it. Raises Failure."""
    commands = boot.load(module).commands
    executor = Executor(commands, module.partition(".")[0], frames.DEFAULT_MAX_PAYLOAD)
    with closing(executor):
        hooks.preload(module)
        hooks.begin(WORKER_START, module, executor.run)
        try:
            return executor.execute(name.encode(), arguments.encode())
        finally:
            hooks.stop(executor.run)


def _left(patience: float = 1.0) -> List[str]:
    """What a fork would lose or share now, waited for so many seconds to go; nothing where there is no /proc."""
    return shared.settle(-1, patience) if isdir("/proc/self/task") else []


def _print_failure(failure: Failure) -> None:
    print()
    traceback = failure.context["traceback"]
    for problem in [failure.message] if traceback else registry.problems() or [failure.message]:
        print(_wrap("error   ", problem))
    if not traceback.startswith("  File"):  # that of bad syntax does, and has no line that the message repeats
        traceback = traceback.partition("\n")[2]
    if traceback:
        print(f"\n{traceback}")
    print("\nfailed: a worker can't start with this module")


def _print_command(command: Command) -> None:
    is_async = is_async_function(command.function)
    whole = sub(r"(?<!,) ", "\0", command.signature)  # lines end between parameters
    print(_wrap("  async " if is_async else "        ", whole).replace("\0", " "))


def _print_hooks() -> None:
    for moment in (PRELOAD, WORKER_START, WORKER_STOP):
        names = hooks.names(moment)
        if names:
            ran = "ran" if moment == PRELOAD else "not run"
            print(_wrap(f"        {moment} ({ran}): ", ", ".join(names)))


def _wrap(prefix: str, text: str) -> str:
    return fill(
        text,
        _WIDTH,
        initial_indent=prefix,
        subsequent_indent=" " * len(prefix),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
