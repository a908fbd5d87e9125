"""What a forked worker renews, shown in this process; random itself is Python's own matter."""

from __future__ import annotations

import logging
import os
import sys
import types
from pathlib import Path
from typing import List

import pytest

from poolworker import renewal


def test_p103_numpy_is_seeded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded: List[str] = []
    numpy = types.ModuleType("numpy.random")
    numpy.seed = lambda: seeded.append("from the system")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "numpy.random", numpy)
    renewal.renew()
    assert seeded == ["from the system"]


def test_p103_a_generator_that_refuses_stops_no_worker(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "numpy.random", types.ModuleType("numpy.random"))
    renewal.renew()
    assert "AttributeError" in capsys.readouterr().err


def test_p103_log_files_are_opened_anew_and_keep_what_is_in_them(tmp_path: Path) -> None:
    handler = logging.FileHandler(tmp_path / "log")
    try:
        handler.emit(logging.makeLogRecord({"msg": "before"}))
        before = handler.stream
        renewal.renew()
        assert handler.stream is not before
        assert before.closed
        handler.emit(logging.makeLogRecord({"msg": "after"}))
    finally:
        handler.close()
    assert (tmp_path / "log").read_text() == "before\nafter\n"


def test_p103_what_is_buffered_is_written_before_a_fork(tmp_path: Path) -> None:
    with open(tmp_path / "log", "w") as file:
        handler = logging.StreamHandler(file)
        file.write("waits")
        inherited = renewal.Inherited()
        inherited.note()
        inherited.flush()
        assert os.path.getsize(tmp_path / "log") == 5
        handler.close()
