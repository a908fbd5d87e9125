"""What makes two registrations the same: the object, or the same statement run anew by a second load of its module.

A source line doesn't: all functions that a factory or a decorator returns have one, and a class's bound methods too.
"""

from __future__ import annotations

from functools import partial
from inspect import unwrap
from os.path import realpath
from types import CodeType, FrameType, MethodType
from typing import Any, Callable, Dict, NamedTuple, Optional


class Site(NamedTuple):
    """Where a function was registered."""

    code: CodeType
    line: int
    namespace: Dict[str, Any]

    @classmethod
    def of(cls, frame: FrameType) -> Site:
        """Note where a frame is."""
        return cls(frame.f_code, frame.f_lineno, frame.f_globals)

    def __str__(self) -> str:
        return f"{self.code.co_filename}:{self.line}"

    def again(self, other: Site) -> bool:
        """Report whether both are one statement of a file that was loaded twice: its code is equal, not the same.

        The code of a copy of the file is equal, too.
        """
        return (
            self.line == other.line
            and self.code is not other.code
            and self.code == other.code
            and realpath(self.code.co_filename) == realpath(other.code.co_filename)
        )


class Registration:
    """A function, and where it was registered."""

    __slots__ = ("function", "site")

    def __init__(self, function: Callable[..., Any], site: Optional[Site]) -> None:
        self.function = function
        self.site = site

    def replaces(self, known: Registration) -> bool:
        """Report whether this is a known one again: the same object, or what a reload of its module made of it."""
        if same(self.function, known.function):
            return True
        return self._again(known) and self.site.namespace is known.site.namespace  # type: ignore[union-attr]

    def same_statement(self, known: Registration) -> bool:
        """Report whether this is a known one again, also when its module was loaded under another name."""
        return same(self.function, known.function) or self._again(known)

    def _again(self, known: Registration) -> bool:
        return self.site is not None and known.site is not None and self.site.again(known.site)


def same(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Report whether two are one object; each access to a method makes a new one, of the same object and function."""
    if isinstance(one, MethodType) and isinstance(other, MethodType):
        return one.__self__ is other.__self__ and one.__func__ is other.__func__
    return one is other


def innermost(function: Callable[..., Any]) -> Any:
    """Return what is behind decorators that say what they wrap, partial(), and methods."""
    inner: Any = unwrap(function)
    for _ in range(20):
        if isinstance(inner, partial):
            inner = unwrap(inner.func)
        elif isinstance(inner, MethodType):
            inner = unwrap(inner.__func__)
        else:
            return inner
    return inner


def location(function: Callable[..., Any]) -> str:
    """Where a function is defined, `FILE:LINE`, or its name where that isn't known."""
    inner = innermost(function)
    code = getattr(inner, "__code__", None)
    if code is None:
        return f"{getattr(inner, '__module__', '?')}.{getattr(inner, '__qualname__', repr(type(inner)))}"
    return f"{code.co_filename}:{code.co_firstlineno}"
