"""What a worker prints: records of logging keep their level, their logger and their lines."""

from __future__ import annotations

import json
from typing import Any, Dict, List

import pytest
from conftest import Serve
from harness import Worker

from poolworker.output import MARK, MAX_RECORD

MODULE = """
import logging, sys
{configured}
log = logging.getLogger("shop.db")
@command
def fail():
    try:
        return 1 / 0
    except ZeroDivisionError:
        log.exception("can't divide")
@command
def info(): log.info("to tell"); print("done")
@command
def debug(): log.debug("in detail"); print("done")
@command
def long(): log.error("x" * 100_000 + "end")
@command
def several():
    print("a\\nb")
    sys.stdout.write("one\\n")
    sys.stdout.write("c\\nd\\n")
    print("e", end="")
    log.warning("beside")
    print("f\\n\\n")
"""


def records(worker: Worker, until: str) -> List[Dict[str, Any]]:
    lines = worker.stderr_until(until).splitlines()
    return [json.loads(line[len(MARK) :]) if line.startswith(MARK) else {"line": line} for line in lines]


@pytest.mark.parametrize("concurrency", [1, 2])
def test_p41_a_record_is_one_line_with_its_level_in_a_module_that_configures_nothing(
    serve: Serve, concurrency: int
) -> None:
    worker = serve(MODULE.format(configured=""), concurrency=concurrency)
    worker.call("fail")
    (record,) = records(worker, "division by zero")
    assert {key: record[key] for key in ("level", "name", "logger")} == {
        "level": 40,
        "name": "ERROR",
        "logger": "shop.db",
    }
    lines = record["text"].splitlines()
    assert lines[0] == "can't divide"
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "ZeroDivisionError: division by zero"
    worker.call("info")
    assert records(worker, "done")[-1] == {"line": "done"}  # INFO isn't shown by default, as anywhere in Python


@pytest.mark.parametrize("stream", ["stderr", "stdout"])
def test_p41_a_record_keeps_the_modules_own_format(serve: Serve, stream: str) -> None:
    configured = f"logging.basicConfig(level=logging.DEBUG, format='%(levelname)s! %(message)s', stream=sys.{stream})"
    worker = serve(MODULE.format(configured=configured))
    worker.call("debug")
    assert {"level": 10, "name": "DEBUG", "logger": "shop.db", "text": "DEBUG! in detail"} in records(worker, "done")


def test_p41_records_are_bounded_and_other_lines_are_as_they_were(serve: Serve) -> None:
    worker = serve(MODULE.format(configured=""))
    worker.call("long")
    (record,) = records(worker, "end")
    assert len(record["text"]) < MAX_RECORD + 20
    assert record["text"].endswith("end")
    worker.call("several")
    got = records(worker, "f\n\n")[1:]
    assert got[:4] == [{"line": "a"}, {"line": "b"}, {"line": "one"}, {"text": "c\nd"}]
    assert {"line": "e"} not in got
    assert sum("beside" in str(each) for each in got) == 1
