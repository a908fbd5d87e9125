"""Functions of a Python module as commands of a worker pool.

    from poolworker import command

    @command
    def summarize(text: str, words: int = 50) -> str: ...

`python -m poolworker --module my.module --check` says what is wrong with a module, without a cluster.
"""

from poolworker.standard import First

with First():
    from poolworker.commands import command
    from poolworker.current import Context, context, deadline
    from poolworker.errors import CallerError, UpstreamError
    from poolworker.hooks import preload, worker_start, worker_stop
    from poolworker.worker import worker_id

__all__ = [
    "CallerError",
    "Context",
    "UpstreamError",
    "command",
    "context",
    "deadline",
    "preload",
    "worker_id",
    "worker_start",
    "worker_stop",
]
