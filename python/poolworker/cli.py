"""The command line: `--fds R,W` serves a supervisor, `--module M --check` looks at a module."""

from __future__ import annotations

from typing import List


def main(arguments: List[str]) -> int:
    """Run; returns the exit code."""
    if arguments[:1] == ["--fds"]:
        from poolworker import worker

        read_fd, write_fd = (int(fd) for fd in arguments[1].split(","))
        return worker.run(read_fd, write_fd)
    return 2
