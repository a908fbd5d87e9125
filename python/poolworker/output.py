"""What a worker prints: a record of logging is one entry in the slot's log, with its level, its logger and its lines.

A handler of `logging` writes a record in one piece to sys.stderr or sys.stdout, in whatever format the module has
chosen. That piece goes out as one line of JSON behind a mark, with what the record says of itself. So does other text
of several lines that is written in one piece, as most logging libraries do. All else is written as it comes, and so is
everything that doesn't come through these two objects.

`logging` isn't imported, nor configured: whoever writes shows in the frame that calls `write`.
"""

from __future__ import annotations

import io
import sys
from json import dumps
from types import FrameType
from typing import Any, BinaryIO, Dict, Final

MARK: Final = "\x02poolworker "
"""What such a line begins with; the rest of it is JSON."""

MAX_RECORD: Final = 8192
"""Characters of a record that are written; what is cut is in its middle."""

_HEAD: Final = 2048  # of these, how many are from its beginning


class RecordWriter(io.TextIOWrapper):
    """Text to a binary file, line by line."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, "utf-8", "backslashreplace", line_buffering=True)
        self.mode = "w"  # type: ignore[misc]  # as open does
        self._at_start = True  # of a line

    def write(self, text: str) -> int:
        """Write text. One piece of several lines, or a record, becomes one line."""
        if type(text) is str and text:
            at_start, self._at_start = self._at_start, text[-1] == "\n"
            if at_start and self._at_start:
                about = _record(sys._getframe(1))
                if about or (len(text) <= MAX_RECORD and text.find("\n") < len(text) - 1 and text.strip("\n")):
                    about["text"] = _bounded(text[:-1])
                    super().write(MARK + dumps(about, ensure_ascii=False) + "\n")
                    return len(text)
        return super().write(text)


def _record(caller: FrameType) -> Dict[str, Any]:
    """Return what a record that logging is writing says of itself; nothing: something else writes."""
    if caller.f_code.co_name != "emit" or caller.f_globals.get("__name__") != "logging":
        return {}
    record = caller.f_locals.get("record")
    try:
        return {"level": int(record.levelno), "name": str(record.levelname), "logger": str(record.name)[:200]}  # type: ignore[union-attr]
    except Exception:  # noqa: BLE001 - another function of that name, or a record of another make
        return {}


def _bounded(text: str) -> str:
    if len(text) <= MAX_RECORD:
        return text
    return f"{text[:_HEAD]}\n… (cut)\n{text[_HEAD - MAX_RECORD :]}"
