"""Exceptions that contain exceptions: groups are judged by what is in them, and say it; so do notes."""

from __future__ import annotations

import builtins
import sys
from typing import Any, List

import pytest
from conftest import Serve

from poolworker import CallerError, UpstreamError, errors, groups
from poolworker.execute import Executor

try:
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup  # type: ignore[import-not-found, unused-ignore]
except ImportError:
    ExceptionGroup = getattr(builtins, "ExceptionGroup", None)
    BaseExceptionGroup = getattr(builtins, "BaseExceptionGroup", None)


def group(*members: BaseException) -> BaseException:
    made: BaseException = BaseExceptionGroup("several", list(members))
    return made


def upstream(text: str = "overloaded") -> BaseException:
    return UpstreamError(text)


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


JUDGED: List[Any] = [
    ("upstream_error", group(upstream())),
    ("upstream_error", group(upstream(), upstream("down"))),
    ("upstream_error", group(group(upstream()), group(group(upstream())))),
    ("caller_error", group(CallerError("at most 10"))),
    ("caller_error", group(group(CallerError("a")), CallerError("b"))),
    ("upstream_error", group(CallerError("a"), upstream())),  # nobody's of the version; the worse of the two
    ("upstream_error", caused(UpstreamError("no answer"), group(KeyError("k")))),
    ("upstream_error", group(caused(UpstreamError("no answer"), KeyError("k")))),
    ("python_error", group(upstream(), ValueError("own"))),
    ("python_error", group(group(upstream()), group(ValueError("own")))),
    ("python_error", caused(ValueError("own"), upstream())),  # who wraps an error has decided what it is
    ("python_error", group(caused(ValueError("own"), upstream()))),
    ("python_error", group(upstream(), KeyboardInterrupt())),
]


@pytest.mark.parametrize(("type", "error"), JUDGED, ids=[f"{i}-{case[0]}" for i, case in enumerate(JUDGED)])
def test_a_group_is_judged_by_its_members(type: str, error: BaseException) -> None:
    assert Executor({}, "user_module", 1).failure(error).type == type


def test_members_are_named_those_of_nested_groups_too() -> None:
    error = group(KeyError("a"), group(ValueError("b"), group(UpstreamError("c"))))
    assert errors.summary(error).endswith(
        "several (2 sub-exceptions): KeyError: 'a'; ValueError: b; poolworker.errors.UpstreamError: c"
    )
    assert errors.text(group(upstream("a"), group(upstream("b")))) == "a; b"
    assert errors.text(group(CallerError("at most 10 items"))) == "at most 10 items"


def test_what_is_said_of_a_group_is_bounded() -> None:
    many = group(*[ValueError("x" * 10_000) for _ in range(400)])
    failure = errors.python_error(many, "user_module")
    assert len(failure.message.encode()) <= errors.MAX_MESSAGE
    assert failure.message.endswith("; and 395 more")
    assert len(failure.context["traceback"].encode()) <= errors.MAX_TRACEBACK
    deep: BaseException = UpstreamError("x")
    for _ in range(500):
        deep = group(deep)
    assert Executor({}, "user_module", 1).failure(deep).type == "upstream_error"
    wide = group(*[group(*[upstream() for _ in range(100)]) for _ in range(100)])
    assert groups.consists_of(wide, UpstreamError)


def test_what_only_looks_like_a_group_is_none() -> None:
    class Odd(ValueError):
        exceptions = property(lambda _: 1 / 0)

        def split(self) -> None: ...

    class Retries(ValueError):
        exceptions = [UpstreamError("once")]  # noqa: RUF012

    for error in (Odd("odd"), Retries("gave up")):
        assert Executor({}, "user_module", 1).failure(error).message.endswith(f": {error}")


@pytest.mark.parametrize("notes", [["in row 17", "of a.csv"], 17, ["in row 17", 3, "of a.csv"]])
def test_notes_are_shown(notes: object) -> None:
    error = ValueError("bad")
    error.__notes__ = notes  # type: ignore[attr-defined]
    failure = errors.python_error(error, "user_module")
    expected = "ValueError: bad" if notes == 17 else "ValueError: bad (in row 17; of a.csv)"
    assert failure.message == expected
    assert ("in row 17\nof a.csv" in failure.context["traceback"]) == (notes != 17)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="no TaskGroup")
@pytest.mark.parametrize("concurrency", [1, 4])
def test_task_groups_hide_no_errors(serve: Serve, concurrency: int) -> None:
    worker = serve(
        """
import asyncio
from poolworker import CallerError, UpstreamError
async def raises(error):
    await asyncio.sleep(0)
    raise error
async def both(*errors):
    async with asyncio.TaskGroup() as tasks:
        for error in errors:
            tasks.create_task(raises(error))
@command
async def upstream(): await both(UpstreamError("a"), UpstreamError("b"))
@command
async def caller(): await both(CallerError("at most 10"))
@command
async def own(): await both(KeyError("k"), ValueError("v"))
@command
async def stream():
    yield 1
    await both(UpstreamError("a"))
""",
        concurrency=concurrency,
    )
    assert [(r.type, r.message) for r in map(worker.call, ("upstream", "caller", "stream"))] == [
        ("communication_error/upstream_error", "a; b"),
        ("request_error/caller_error", "at most 10"),
        ("communication_error/upstream_error", "a"),
    ]
    own = worker.call("own")
    assert own.type == "communication_error/python_error"
    assert own.message.endswith("(2 sub-exceptions): KeyError: 'k'; ValueError: v")
    assert "contains KeyError: 'k'\n" in own.body["context"]["traceback"]
    assert "in raises" in own.body["context"]["traceback"]
