"""`python -m poolworker --module M` with --check and --call: what a user sees without a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import INSTALLED, write_module


def look(folder: Path, *arguments: str, installed: bool = False) -> subprocess.CompletedProcess[str]:
    """Run in folder; installed: as `PYTHON <installed directory>`, else as `python -m poolworker`."""
    start = [INSTALLED] if installed else ["-m", "poolworker"]
    return subprocess.run(
        [sys.executable, "-B", *start, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": "" if installed else INSTALLED, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


GOOD = """
import os
@command
def summarize(text: str, words: int = 50, *, key=os.environ.get("HOME")) -> str:
    return " ".join(text.split()[:words])
@command(name="text.embed")
async def embed(texts: "list[str]", model="small", normalise: bool = True, dimensions: int = 256) -> list:
    print("embedding")
    return [len(t) for t in texts]
@command
def fail(): raise ValueError("no")
@command
def leave(): raise SystemExit(5)
"""


@pytest.mark.parametrize("installed", [False, True], ids=["-m", "installed directory"])
def test_check_of_a_good_module(tmp_path: Path, installed: bool) -> None:
    write_module(tmp_path, GOOD)
    done = look(tmp_path, "--module", "user_module", "--check", installed=installed)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:2] == [
        "module  user_module",
        f"python  {sys.version.split()[0]} at {sys.executable}",
    ]
    assert (
        done.stdout.split("\n\n", 1)[1]
        == """\
        fail()
        leave()
        summarize(text: str, words: int = 50, *, key=...) -> str
  async text.embed(texts: list[str], model=..., normalise: bool = True,
        dimensions: int = 256) -> list

ok: 4 commands, 0 warnings
"""
    )


def test_check_of_a_module_that_fails_on_import(tmp_path: Path) -> None:
    write_module(tmp_path, "def load():\n    raise RuntimeError('settings are missing')\nload()")
    done = look(tmp_path, "--module", "user_module", "--check")
    assert (done.returncode, done.stderr) == (1, "")
    assert (
        done.stdout.split("\n\n", 1)[1]
        == f"""\
error   importing user_module failed: RuntimeError: settings are missing

  File "{tmp_path}/user_module.py", line 3, in load
    raise RuntimeError('settings are missing')
  File "{tmp_path}/user_module.py", line 4, in <module>
    load()

failed: a worker can't start with this module
"""
    )


PROBLEMS = {
    "no such module": (None, ["module user_module isn't there"]),
    "no commands": ("", ["module user_module registers no command; decorate at least one", "function with @command"]),
    "every problem at once": (
        "@command\ndef f(a, /): ...\n@command\ndef g(*b): ...",
        ['parameter "a" is positional-only', '"*b" can never get a value'],
    ),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_check_of_problems_is_exit_1(tmp_path: Path, case: str) -> None:
    source, messages = PROBLEMS[case]
    if source is not None:
        write_module(tmp_path, source)
    done = look(tmp_path, "--module", "user_module", "--check")
    assert done.returncode == 1
    flat = " ".join(done.stdout.split())
    for message in messages:
        assert message in flat
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if "/" not in line)


def test_check_names_what_is_annotated_and_cannot_be_checked(tmp_path: Path) -> None:
    write_module(
        tmp_path,
        """
import datetime, enum, typing
from pathlib import Path
class Options(typing.TypedDict, total=False):
    a: int
class Level(enum.Enum):
    HIGH = "high"
class Client: ...
@command
def fine(a: int, b: "typing.Optional[str]", c: typing.List[typing.Dict[str, float]], d: typing.Any, e: Options,
         f: typing.Literal["x"], g: typing.Mapping[str, int], h: object, i: None, j: "typing.Iterable[str]"): ...
@command
def converted(when: datetime.date, levels: typing.List[Level], path: typing.Union[Path, str],
              pair: typing.Tuple[int, bytes], **rest: bytes): ...
@command
def odd(client: Client, later: typing.List["Missing"], call: typing.Callable[[], int], many: int = "auto"): ...
@command(check=False)
def own(client: Client): ...
""",
    )
    done = look(tmp_path, "--module", "user_module", "--check")
    assert done.returncode == 0, done.stdout
    flat = " ".join(done.stdout.split())
    for name, why in (
        ("client", "Client is nothing that JSON has values of"),
        ("later", "'Missing' can't be evaluated (NameError)"),
        ("call", "Callable is nothing that JSON has values of"),
    ):
        assert f'warning odd: "{name}" isn\'t checked, or not whole: {why}' in flat
    assert 'warning odd: "many" has a default that its annotation doesn\'t allow, so any str passes' in flat
    assert flat.endswith("ok: 4 commands, 4 warnings")
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if "/" not in line)


def test_check_of_annotations_that_do_not_resolve(tmp_path: Path) -> None:
    write_module(tmp_path, "@command\ndef f(a: 'Missing', b: 'also.missing' = None): ...")
    done = look(tmp_path, "--module", "user_module", "--check")
    assert done.returncode == 0
    assert "f(a: Missing, b: also.missing = None)" in done.stdout


def test_check_lists_each_problem_by_itself(tmp_path: Path) -> None:
    write_module(tmp_path, "@command\ndef f(a, /, *b): ...\n@command(name='é')\ndef g(): ...")
    lines = look(tmp_path, "--module", "user_module", "--check").stdout.splitlines()
    assert sum(line.startswith("error   ") for line in lines) == 3


def test_check_of_bad_syntax_shows_the_line_once(tmp_path: Path) -> None:
    write_module(tmp_path, "def f(:\n    pass")
    done = look(tmp_path, "--module", "user_module", "--check")
    assert done.returncode == 1
    assert f'\n  File "{tmp_path}/user_module.py", line 2\n    def f(:\n' in done.stdout


def test_check_runs_preload_and_no_other_hook(tmp_path: Path) -> None:
    source = """
from poolworker import preload, worker_start
@preload
def load(): {}
@worker_start
def connect(): raise OSError("no network here")
@command
def f(): ...
"""
    write_module(tmp_path, source.format("..."))
    done = look(tmp_path, "--module", "user_module", "--check")
    assert done.returncode == 0
    assert "        preload (ran): load\n        worker_start (not run): connect\n" in done.stdout
    write_module(tmp_path, source.format('raise FileNotFoundError("no model.bin")'))
    done = look(tmp_path, "--module", "user_module", "--check")
    assert done.returncode == 1
    flat = " ".join(done.stdout.split())
    assert "error the preload hook load of user_module failed: FileNotFoundError: no model.bin" in flat


def test_p102_check_warns_of_what_keeps_workers_from_being_forked(tmp_path: Path) -> None:
    write_module(
        tmp_path,
        """
import threading
threading.Thread(target=threading.Event().wait, daemon=True, name="exporter").start()
@command
def f(): ...
""",
    )
    done = look(tmp_path, "--module", "user_module", "--check")
    assert done.returncode == 0
    flat = " ".join(done.stdout.split())
    assert "warning thread exporter is left: with `preload: Zygote` workers would be spawned, not forked" in flat


def test_path_comes_before_the_working_directory(tmp_path: Path) -> None:
    write_module(tmp_path / "src", "@command\ndef from_src(): return 1")
    write_module(tmp_path, "@command\ndef from_here(): return 1")
    assert "from_src" in look(tmp_path, "--path", "src", "--module", "user_module", "--check").stdout
    assert "from_here" in look(tmp_path, "--module", "user_module", "--check").stdout


def test_call_prints_the_result_alone(tmp_path: Path) -> None:
    write_module(tmp_path, GOOD)
    done = look(tmp_path, "--module", "user_module", "--call", "text.embed", '{"texts": ["é", "ab"]}')
    assert (done.returncode, done.stdout, done.stderr) == (0, "[1,2]\n", "embedding\n")


FAILED_CALLS = {
    "the handler raises": ("fail", "{}", 1, "communication_error/python_error: ValueError: no\n"),
    "a wrong argument": (
        "fail",
        '{"x": 1}',
        1,
        'request_error/invalid_payload: fail has no argument "x"; it is fail()\n',
    ),
    "no JSON": ("fail", "x", 1, "request_error/invalid_payload: the payload isn't JSON"),
    "no such command": (
        "nope",
        "{}",
        1,
        "request_error/unknown_command: Unknown command: nope\nthe module has fail, leave, summarize, text.embed\n",
    ),
    "the handler exits": ("leave", "{}", 5, ""),
}


@pytest.mark.parametrize("case", FAILED_CALLS)
def test_call_that_fails_says_why_on_stderr(tmp_path: Path, case: str) -> None:
    name, arguments, code, message = FAILED_CALLS[case]
    write_module(tmp_path, GOOD)
    done = look(tmp_path, "--module", "user_module", "--call", name, arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr


@pytest.mark.parametrize(
    "arguments", [[], ["--check"], ["--module", "m"], ["--module", "m", "--call", "x"], ["--nope"]], ids=str
)
def test_wrong_usage_is_exit_2(tmp_path: Path, arguments: list[str]) -> None:
    done = look(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: python -m poolworker")


def test_help_tells_the_exit_codes(tmp_path: Path) -> None:
    done = look(tmp_path, "--help")
    assert done.returncode == 0
    assert "exit code: 0 the module can serve" in done.stdout
