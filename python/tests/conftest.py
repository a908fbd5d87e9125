"""Fixtures: a worker that serves a module written in the test."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional

import pytest
from harness import Worker, write_module
from zygotes import Zygote

Serve = Callable[..., Worker]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Serve]:
    """start(source, env=…) starts a worker beside a module `user_module` with that source, before Init."""
    with contextlib.ExitStack() as stack:

        def start_worker(source: str = "", env: Optional[Dict[str, str]] = None, **options: Any) -> Worker:
            write_module(tmp_path, source)
            return stack.enter_context(Worker(tmp_path, env, **options))

        yield start_worker


@pytest.fixture
def serve(start: Serve) -> Serve:
    """serve(source, env=…, **settings of Init) returns a worker that has been admitted."""

    def serve_module(source: str, env: Optional[Dict[str, str]] = None, **settings: Any) -> Worker:
        worker = start(source, env)
        answer = worker.init("user_module", **settings)
        assert answer.result["worker"] == settings.get("worker", "a-1")
        return worker

    return serve_module


@pytest.fixture(params=["spawned", "forked"])
def way(request: pytest.FixtureRequest) -> str:
    """How a worker is made."""
    return str(request.param)


@pytest.fixture
def serve_as(way: str, serve: Serve, tmp_path: Path) -> Iterator[Serve]:
    """serve_as(source, **settings of Init) returns a worker that has been admitted, made in either way."""
    with contextlib.ExitStack() as stack:

        def serve_so(source: str, env: Optional[Dict[str, str]] = None, **settings: Any) -> Worker:
            if way == "spawned":
                return serve(source, env, **settings)
            write_module(tmp_path, source)
            zygote = stack.enter_context(Zygote(tmp_path, env=env))
            worker = zygote.fork()
            assert worker.init("user_module", mode="fork", **settings).result["worker"] == "a-1"
            return worker

        yield serve_so


@pytest.fixture(autouse=True)
def _no_descriptor_left() -> Iterator[None]:
    """Fail a test that leaves file descriptors open."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) <= before
