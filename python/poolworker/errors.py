"""Errors as they travel: category, type, message, context. Tracebacks hold code lines, never values."""

from __future__ import annotations

import importlib
import json
import linecache
import os
import traceback
from types import TracebackType
from typing import Any, Dict, Final, List, Optional, Tuple

MAX_MESSAGE: Final = 2048
"""Bytes of a message that travel; an exception's text can be any length."""

MAX_TRACEBACK: Final = 4096
"""Bytes of a traceback that travel."""

_MACHINERY: Final = (os.path.dirname(os.path.abspath(__file__)) + os.sep, "<frozen importlib", importlib.__file__)
_STDLIB: Final = os.path.dirname(os.__file__) + os.sep
_MAX_CHAIN: Final = 5  # causes of causes that a traceback follows


class CallerError(Exception):
    """Raise it, or a subclass, when a call fails by its caller's doing: the values don't make sense, say.

    The caller gets `request_error/caller_error` with the text, as HTTP 400. It counts against neither the worker nor
    its version. A mere wrong type or missing argument is found before the handler runs.
    """


class UpstreamError(Exception):
    """Raise it, or a subclass, when a call fails because a service that the handler calls has failed.

    The caller gets `communication_error/upstream_error` with the text, as HTTP 502. It counts against neither the
    worker nor its version: a migration isn't rolled back for a provider's bad hour.
    """


class Failure(Exception):
    """A failed operation with the four parts that a caller gets."""

    def __init__(self, category: str, type: str, message: str, **context: Any) -> None:
        super().__init__(message)
        self.category = category
        self.type = type
        self.message = _bounded(message, MAX_MESSAGE)
        self.context = context

    def parts(self) -> Dict[str, Any]:
        """The four parts by name."""
        return {"category": self.category, "type": self.type, "message": self.message, "context": self.context}

    def encode(self) -> bytes:
        """The JSON of the four parts; ASCII, so that no text in them can fail to encode."""
        return json.dumps(self.parts()).encode("ascii")


def invalid_payload(message: str, **context: Any) -> Failure:
    """The caller's arguments don't fit."""
    return Failure("request_error", "invalid_payload", message, **context)


def python_error(error: BaseException, package: str) -> Failure:
    """A handler raised. package: as for describe."""
    return Failure(
        "communication_error",
        "python_error",
        summary(error),
        exception=kind(error),
        traceback=describe(error, package),
    )


def caller_error(error: CallerError) -> Failure:
    """A handler says that its caller is wrong."""
    return Failure("request_error", "caller_error", text(error), exception=kind(error))


def upstream_error(error: UpstreamError, package: str) -> Failure:
    """A handler says that a service of its is wrong. package: as for describe."""
    return Failure(
        "communication_error",
        "upstream_error",
        text(error),
        exception=kind(error),
        traceback=describe(error, package),
    )


def kind(error: BaseException) -> str:
    """The exception's name as a traceback shows it: module-qualified unless it is a builtin."""
    cls = type(error)
    if cls.__module__ in ("builtins", "__main__"):
        return cls.__qualname__
    return f"{cls.__module__}.{cls.__qualname__}"


def summary(error: BaseException) -> str:
    """`ValueError: text`, or only the name when there is no text."""
    shown = _str(error)
    return f"{kind(error)}: {shown}" if shown else kind(error)


def text(error: BaseException) -> str:
    """What the exception says, or its name when it says nothing."""
    return _str(error) or kind(error)


def _str(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        return "(its text can't be shown: __str__ raised)"


def describe(error: BaseException, package: str) -> str:
    """The traceback, most recent call first, the user's own frames before those of libraries.

    package is the top-level package of the user's module: its frames are the user's own even when it is
    installed among the libraries. poolworker's own frames and the import machinery's are left out. Causes follow,
    each under its own line. At most MAX_TRACEBACK bytes; what is cut is the far end.
    """
    blocks = []
    seen: List[BaseException] = []
    link: Optional[BaseException] = error
    while link is not None and len(seen) < _MAX_CHAIN and not any(link is known for known in seen):
        prefix = "caused by " if seen else ""
        seen.append(link)
        blocks.append(prefix + _headline(link) + "\n" + "".join(_frames(link.__traceback__, package)))
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return _bounded("".join(blocks).rstrip("\n"), MAX_TRACEBACK)


def _headline(error: BaseException) -> str:
    if isinstance(error, SyntaxError):  # where it is stands in the exception, not in a frame
        return "".join(traceback.format_exception_only(type(error), error)).rstrip("\n")
    return _bounded(summary(error), MAX_MESSAGE)


def _frames(tb: Optional[TracebackType], package: str) -> List[str]:
    """Both groups innermost first; a stable sort puts the user's frames ahead."""
    frames: List[Tuple[bool, str]] = []
    for frame, line in traceback.walk_tb(tb):
        code = frame.f_code
        if code.co_filename.startswith(_MACHINERY):
            continue
        source = linecache.getline(code.co_filename, line, frame.f_globals).strip()
        text = f'  File "{code.co_filename}", line {line}, in {code.co_name}\n'
        own = str(frame.f_globals.get("__name__")).partition(".")[0] == package
        frames.append((not own and _is_library(code.co_filename), text + (f"    {source}\n" if source else "")))
    frames.reverse()
    return [text for _, text in sorted(frames, key=lambda frame: frame[0])]


def _is_library(filename: str) -> bool:
    return filename.startswith(("<", _STDLIB)) or "site-packages" in filename or "dist-packages" in filename


def _bounded(text: str, limit: int) -> str:
    """Cut text to limit bytes of UTF-8, marking the cut; lone surrogates become escapes."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= limit:
        return data.decode("utf-8")
    mark = "… (cut)"
    return data[: limit - len(mark.encode())].decode("utf-8", "ignore") + mark
