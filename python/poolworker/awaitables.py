"""What has to be awaited: by what it can do, as coroutines may be compiled, and be of many other types."""

from __future__ import annotations

from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_ITERABLE_COROUTINE
from types import CoroutineType, GeneratorType
from typing import Any, Callable, Coroutine

from poolworker.registration import innermost


def is_awaitable(value: Any) -> bool:
    """Report whether a handler's result is to be awaited: a coroutine, a future, any object with __await__."""
    kind = type(value)
    if kind is GeneratorType:  # one of types.coroutine
        return bool(value.gi_code.co_flags & CO_ITERABLE_COROUTINE)
    return hasattr(kind, "__await__")


def as_coroutine(awaitable: Any) -> Coroutine[Any, Any, Any]:
    """Return what a task can be made of."""
    return awaitable if type(awaitable) is CoroutineType else _awaited(awaitable)


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def is_async_function(function: Callable[..., Any]) -> bool:
    """Report whether a call is known to give a coroutine or an async generator; of other awaitables nothing is known.

    A compiled function isn't Python's own type, and has the flags of one.
    """
    inner = innermost(function)
    if not hasattr(inner, "__code__") and callable(inner):  # an object with a method for that
        inner = innermost(type(inner).__call__)
    flags = getattr(getattr(inner, "__code__", None), "co_flags", 0)
    return isinstance(flags, int) and bool(flags & (CO_COROUTINE | CO_ASYNC_GENERATOR))
