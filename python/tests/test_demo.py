"""The sample worker module: it does what its docstring says."""

from __future__ import annotations

import select
import signal
import time
from pathlib import Path
from typing import Dict, Iterator

import pytest
from harness import Worker

from poolworker import frames

SAMPLES = Path(__file__).resolve().parents[2] / "config" / "samples" / "worker"


@pytest.fixture
def demo(request: pytest.FixtureRequest) -> Iterator[Worker]:
    """A worker that serves demo.commands, with the environment that the test's parameter says."""
    env: Dict[str, str] = getattr(request, "param", {})
    with Worker(SAMPLES, env) as worker:
        assert "echo" in worker.init("demo.commands").result["commands"]
        yield worker


def test_work(demo: Worker) -> None:
    assert demo.call("echo", text="é", n=[1]).result == {"text": "é", "n": [1]}
    who = demo.call("who").result
    assert (who["worker"], who["pid"]) == ("a-1", demo.process.pid)
    for command in ("sleep", "sleep_async", "compute"):
        begin = time.monotonic()
        assert demo.call(command, ms=30).result["worker"] == "a-1"
        assert time.monotonic() - begin >= 0.03


def test_trouble(demo: Worker) -> None:
    assert demo.call("fail", message="why").message == "demo.commands.DemoFailure: why"
    assert demo.call("crash", how="x").message.startswith("ValueError: how must be")
    assert demo.call("leak", mb=2).result["leaked_mb"] == 2
    assert demo.call("leak", mb=3).result["leaked_mb"] == 5
    assert demo.call("noise", lines=2).result == {"lines": 2}
    demo.stderr_until("from a child process", 2)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({}, -signal.SIGSEGV),
        ({"how": "kill"}, -signal.SIGKILL),
        ({"how": "exit", "status": 3}, 3),
        ({"how": "sys.exit", "status": 4}, 4),
    ],
)
def test_crash(demo: Worker, arguments: Dict[str, object], code: int) -> None:
    with pytest.raises(AssertionError, match="the worker ended"):
        demo.call("crash", **arguments)
    assert demo.exit_code() == code


@pytest.mark.parametrize("demo", [{"FAIL_RATE": "1"}], indirect=True)
def test_fail_rate(demo: Worker) -> None:
    for command in ("echo", "sleep", "sleep_async", "compute"):
        assert demo.call(command).message == "demo.commands.DemoFailure: FAIL_RATE is 1.0"
    assert demo.call("who").result["worker"] == "a-1"


@pytest.mark.parametrize("demo", [{"FAIL_COMMAND": "echo"}], indirect=True)
def test_fail_command(demo: Worker) -> None:
    assert demo.call("echo").message == "demo.commands.DemoFailure: FAIL_COMMAND is echo"
    assert demo.call("sleep", ms=1).result["worker"] == "a-1"


@pytest.mark.parametrize("demo", [{"FAIL_RATE": "0.3"}], indirect=True)
def test_fail_rate_is_a_part(demo: Worker) -> None:
    failed = sum(isinstance(demo.call("echo").body.get("category"), str) for _ in range(1000))
    assert 200 < failed < 400


@pytest.mark.parametrize("demo", [{"CRASH_RATE": "1"}, {"CRASH": "1"}], indirect=True)
def test_crash_rate(demo: Worker) -> None:
    with pytest.raises(AssertionError, match="the worker ended"):
        demo.call("echo")
    assert demo.exit_code() == -signal.SIGSEGV


@pytest.mark.parametrize("demo", [{"CRASH": "0", "CRASH_RATE": "0", "FAIL_RATE": "0"}], indirect=True)
def test_no_trouble_when_told_so(demo: Worker) -> None:
    for n in range(20):
        assert demo.call("echo", n=n).result == {"n": n}


@pytest.mark.parametrize("demo", [{"SLOW_MS": "30", "LEAK_MB": "1"}], indirect=True)
def test_slow_and_leak(demo: Worker) -> None:
    begin = time.monotonic()
    demo.call("echo")
    assert time.monotonic() - begin >= 0.03
    assert demo.call("leak", mb=0).result["leaked_mb"] == 1


@pytest.mark.parametrize("busy", [False, True])
def test_p30_hang_ends_with_a_kill(demo: Worker, busy: bool) -> None:
    id = demo.send(frames.REQUEST, b'{"busy": true}' if busy else b"{}", b"hang")
    assert not select.select([demo.read_fd], [], [], 0.3)[0]
    demo.process.kill()
    with pytest.raises(AssertionError, match="the worker ended"):
        demo.reply(id)
    assert demo.exit_code() == -signal.SIGKILL


def test_p6_import_failures() -> None:
    with Worker(SAMPLES, {"IMPORT_FAIL": "1"}) as worker:
        answer = worker.init("demo.commands")
        assert answer.message == (
            "importing demo.commands failed: RuntimeError: IMPORT_FAIL is set: this revision can't start"
        )
    with Worker(SAMPLES) as worker:
        traceback = worker.init("demo.broken").body["context"]["traceback"].splitlines()
        assert traceback[0] == "RuntimeError: settings file /etc/demo/settings.json is missing"
        assert [line.rpartition(" in ")[2] for line in traceback if line.startswith("  File")] == ["load", "<module>"]
