"""Errors as they travel: category, type, message, context. Tracebacks hold code lines, never values."""

from __future__ import annotations

import importlib
import os
import tokenize  # linecache imports it where it needs it
from linecache import getline
from traceback import format_exception_only, walk_tb
from types import FrameType, TracebackType
from typing import Any, Callable, Dict, Final, Iterator, List, Optional, Set, Tuple

from poolworker import groups
from poolworker.standard import HOME, First
from poolworker.taken import encode_json

MAX_MESSAGE: Final = 2048
"""Bytes of a message that travel; an exception's text can be any length."""

MAX_TRACEBACK: Final = 4096
"""Bytes of a traceback that travel."""

_MACHINERY: Final = (os.path.dirname(os.path.abspath(__file__)) + os.sep, "<frozen importlib", importlib.__file__)
_READERS: Final = (tokenize.__name__, "token")  # of source files
_STDLIB: Final = HOME + os.sep
_MAX_CHAIN: Final = 5  # causes of causes that a traceback follows
_MAX_MEMBERS: Final = 5  # of a group that are named, and shown in a traceback
_MAX_MEMBER: Final = 300  # bytes of a message that one of them, or a note, may take


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
        return encode_json(self.parts()).encode("ascii")


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


def caller_error(error: BaseException) -> Failure:
    """A handler says that its caller is wrong: by a CallerError, or a group of such."""
    return Failure("request_error", "caller_error", text(error), exception=kind(error))


def upstream_error(error: BaseException, package: str) -> Failure:
    """A handler says that a service of its is wrong. package: as for describe."""
    return Failure(
        "communication_error",
        "upstream_error",
        text(error),
        exception=kind(error),
        traceback=describe(error, package),
    )


def raised(error: BaseException, package: str) -> Failure:
    """What user code raised is to the caller whose doing its class says it is. package: as for describe."""
    if groups.consists_of(error, CallerError):
        return caller_error(error)
    if groups.consists_of(error, CallerError, UpstreamError):
        return upstream_error(error, package)
    return python_error(error, package)


def kind(error: BaseException) -> str:
    """The exception's name as a traceback shows it: module-qualified unless it is a builtin."""
    cls = type(error)
    if cls.__module__ in ("builtins", "__main__"):
        return cls.__qualname__
    return f"{cls.__module__}.{cls.__qualname__}"


def summary(error: BaseException) -> str:
    """`ValueError: text`, or only the name when there is no text; then a group's members, and what notes say."""
    shown = _plain_summary(error)
    if groups.members(error):
        shown += ": " + _named(error, _plain_summary)
    return shown + _noted(error)


def text(error: BaseException) -> str:
    """What the exception says, or its name when it says nothing; of a group, what its members say."""
    return (_named(error, _plain_text) if groups.members(error) else _plain_text(error)) + _noted(error)


def _plain_summary(error: BaseException) -> str:
    shown = _str(error)
    return f"{kind(error)}: {shown}" if shown else kind(error)


def _plain_text(error: BaseException) -> str:
    return _str(error) or kind(error)


def _named(group: BaseException, show: Callable[[BaseException], str]) -> str:
    """Show the first members of a group, those of the groups in it included."""
    leaves = list(groups.leaves(group))
    shown = [_bounded(show(leaf) + _noted(leaf), _MAX_MEMBER) for leaf in leaves[:_MAX_MEMBERS]]
    if len(leaves) > _MAX_MEMBERS:
        shown.append(f"and {len(leaves) - _MAX_MEMBERS} more")
    return "; ".join(shown)


def _noted(error: BaseException) -> str:
    notes = groups.notes(error)
    return f" ({_bounded('; '.join(notes), _MAX_MEMBER)})" if notes else ""


def _str(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        return "(its text can't be shown: __str__ raised)"


def describe(error: BaseException, package: str) -> str:
    """The traceback, most recent call first, the user's own frames before those of libraries.

    package is the top-level package of the user's module: its frames are the user's own even when it is
    installed among the libraries. poolworker's own frames and the import machinery's are left out. A group's members
    and causes follow, each under its own line. At most MAX_TRACEBACK bytes; what is cut is the far end.
    """
    blocks: List[str] = []
    size = 0
    with First(*_READERS):
        for block in _blocks(error, package, "", set()):
            blocks.append(block)
            size += len(block)
            if size > MAX_TRACEBACK:
                break
    return _bounded("".join(blocks).rstrip("\n"), MAX_TRACEBACK)


def _blocks(error: BaseException, package: str, prefix: str, seen: Set[int]) -> Iterator[str]:
    """Yield an exception's part of a traceback, its members' and its causes'; seen: the ids of those that had it."""
    link: Optional[BaseException] = error
    for _ in range(_MAX_CHAIN):
        if link is None or id(link) in seen:
            return
        seen.add(id(link))
        yield prefix + _headline(link) + "\n" + "".join(_frames(link.__traceback__, package))
        for member in groups.members(link)[:_MAX_MEMBERS]:
            yield from _blocks(member, package, "contains ", seen)
        prefix = "caused by "
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def where(error: BaseException, package: str) -> str:
    """The line that raised an exception, `FILE:LINE`: the user's own where there is one; "": it isn't known."""
    place = ""
    for frame, line in walk_tb(error.__traceback__):
        name = frame.f_code.co_filename
        if not name.startswith(_MACHINERY) and (_is_own(frame, package) or not place):
            place = f"{name}:{line}"
    return place


def _headline(error: BaseException) -> str:
    if isinstance(error, SyntaxError):  # where it is stands in the exception, not in a frame
        with First():
            return "".join(format_exception_only(type(error), error)).rstrip("\n")
    return "\n".join([_bounded(_plain_summary(error), MAX_MESSAGE), *groups.notes(error)])


def _is_own(frame: FrameType, package: str) -> bool:
    """Whether a frame is the user's: not the standard library's or an installed package's."""
    name = str(frame.f_globals.get("__name__")).partition(".")[0]
    return name == package or not _is_library(frame.f_code.co_filename)


def _frames(tb: Optional[TracebackType], package: str) -> List[str]:
    """Both groups innermost first; a stable sort puts the user's frames ahead."""
    frames: List[Tuple[bool, str]] = []
    for frame, line in walk_tb(tb):
        code = frame.f_code
        if code.co_filename.startswith(_MACHINERY):
            continue
        source = _source(frame, line)
        text = f'  File "{code.co_filename}", line {line}, in {code.co_name}\n'
        frames.append((not _is_own(frame, package), text + (f"    {source}\n" if source else "")))
    frames.reverse()
    return [text for _, text in sorted(frames, key=lambda frame: frame[0])]


def _source(frame: FrameType, line: int) -> str:
    """The line of a source file; "" where it can't be read: user code may have broken what reads files."""
    try:
        return getline(frame.f_code.co_filename, line, frame.f_globals).strip()
    except Exception:  # noqa: BLE001
        return ""


def _is_library(filename: str) -> bool:
    return filename.startswith(("<", _STDLIB)) or "site-packages" in filename or "dist-packages" in filename


def _bounded(text: str, limit: int) -> str:
    """Cut text to limit bytes of UTF-8, marking the cut; lone surrogates become escapes."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= limit:
        return data.decode("utf-8")
    mark = "… (cut)"
    return data[: limit - len(mark.encode())].decode("utf-8", "ignore") + mark
