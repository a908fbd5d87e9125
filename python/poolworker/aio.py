"""The event loop of async handlers: one for the life of the worker, so that clients opened in it stay usable."""

from __future__ import annotations

import asyncio
from typing import Any, Coroutine


def new_loop() -> asyncio.AbstractEventLoop:
    """Make the loop. It runs only while a handler does: a task left behind goes on with the next request."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop


def run(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run one handler to its end. What interrupts the loop (SIGINT, SIGTERM) cancels the handler first."""
    task = loop.create_task(coroutine)
    try:
        return loop.run_until_complete(task)
    except BaseException:
        if not task.done():
            task.cancel()
            loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        raise


def close(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel the tasks left behind, let them and the async generators finish, close the loop."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    asyncio.set_event_loop(None)
    loop.close()
