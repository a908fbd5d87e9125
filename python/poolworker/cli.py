"""The command line.

`--fds R,W[,M]` and `--zygote S` serve a supervisor; `--module M` with `--check` or `--call` looks at a module.
"""

from __future__ import annotations

import sys
from re import fullmatch
from typing import Any, List

from poolworker.standard import First


def main(arguments: List[str]) -> int:
    """Run; returns the exit code. What only one of the two uses need is imported by it alone: starts count."""
    if arguments[:1] == ["--zygote"] and len(arguments) == 2 and arguments[1].isdigit():
        with First():
            from poolworker import zygote

        return zygote.run(int(arguments[1]))
    if arguments[:1] == ["--fds"]:
        fds = fullmatch(r"(\d+),(\d+)(?:,(\d+))?", arguments[1] if len(arguments) == 2 else "")
        if fds is None:
            print("usage: --fds R,W[,M] (inherited file descriptors: two pipes, and memory)", file=sys.stderr)
            return 2
        with First():
            from poolworker import worker

        return worker.run(*map(int, filter(None, fds.groups())))
    return _look(arguments)


def _look(arguments: List[str]) -> int:
    with First():
        from poolworker import check

        options = _parser().parse_args(arguments)
    if options.call is None:
        return check.check(options.module, options.path)
    return check.call(options.module, options.path, *options.call)


def _parser() -> Any:
    import argparse

    parser = argparse.ArgumentParser(
        prog="python -m poolworker",
        description="Looks at a module of commands as a worker would load it, without a cluster.",
        epilog="exit code: 0 the module can serve (warnings don't count), or the command returned; 1 it can't, or the "
        "command failed; 2 wrong usage",
    )
    parser.add_argument("--module", required=True, metavar="M", help="the module, as in spec.worker.module")
    parser.add_argument(
        "--path",
        action="append",
        default=[],
        metavar="DIR",
        help="a directory to import from, first (repeatable; default: the working directory)",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true", help="say what is wrong with the module")
    what.add_argument(
        "--call", nargs=2, metavar=("NAME", "JSON"), help='run a command once, e.g. --call echo \'{"text": "hi"}\''
    )
    return parser
