"""Init: what keeps a worker from starting, and how it says so."""

from __future__ import annotations

import ast
import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any, Dict

import pytest
from conftest import Serve
from harness import GENERATION, INSTALLED, Worker, write_module

from poolworker import frames

FAILURES = {
    "P6 no such module": ("nope.commands", "", "module nope.commands isn't there: no nope in {folder}"),
    "P6 no such submodule": ("user_module.x", "", "module user_module.x isn't there: no user_module.x in {folder}"),
    "a dependency is missing": (
        "user_module",
        "import torhc",
        "importing user_module failed: ModuleNotFoundError: No module named 'torhc'; is it installed for ",
    ),
    "it raises": ("user_module", "1 / 0", "importing user_module failed: ZeroDivisionError: division by zero"),
    "it exits": (
        "user_module",
        "import sys\nsys.exit('set API_KEY')",
        "importing user_module failed: SystemExit: set API_KEY",
    ),
    "it is interrupted": ("user_module", "raise KeyboardInterrupt", "importing user_module failed: KeyboardInterrupt"),
    "bad syntax": ("user_module", "def f(:\n    pass", "importing user_module failed: SyntaxError: invalid syntax"),
    "null bytes": ("user_module", "x = 1\0", "importing user_module failed: "),
    "no commands": ("user_module", "", "module user_module registers no command; decorate at least one function"),
    "an empty name": ("", "", 'Init must have "module" as a str'),
    "a relative name": (".x", "", "importing .x failed: TypeError"),
    "@command with a text": ("user_module", "@command('x')\ndef f(): ...", "to give a name write @command(name='x')"),
    "positional-only": ("user_module", "@command\ndef f(a, /): ...", 'parameter "a" is positional-only'),
    "variable positional": ("user_module", "@command\ndef f(*a): ...", '"*a" can never get a value'),
    "a name for no URL": ("user_module", "@command(name='a/b')\ndef f(): ...", "can't be part of a URL"),
    "a name taken": (
        "user_module",
        "@command\ndef f(): ...\n@command(name='f')\ndef g(): ...",
        "command f is registered twice, at {folder}/user_module.py:2 and at {folder}/user_module.py:4",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_p6_boot_failure_is_named_and_exits_with_3(start: Serve, tmp_path: Path, case: str) -> None:
    module, source, message = FAILURES[case]
    worker = start(source)
    answer = worker.init(module)
    assert answer.type == "system_error/worker_boot_failed"
    assert message.format(folder=tmp_path) in answer.message
    assert worker.exit_code() == 3
    assert worker.stderr() == ""


@pytest.mark.parametrize("part", ["worker", "mode", "module"])
def test_p36_init_without_a_part_is_named(start: Serve, part: str) -> None:
    worker = start("@command\ndef f(): ...")
    settings: Dict[str, Any] = {"module": "user_module", part: None}
    answer = worker.init(**settings)
    assert answer.type == "system_error/worker_boot_failed"
    assert answer.message == f'Init must have "{part}" as a str'
    assert worker.exit_code() == 3


def test_all_problems_are_listed_at_once(start: Serve) -> None:
    answer = start("@command\ndef f(a, /, *b): ...\n@command(name='é')\ndef g(): ...").init("user_module")
    assert answer.message.count("; ") >= 2
    for part in ('"a" is positional-only', '"*b" can never', "can't be part of a URL"):
        assert part in answer.message


def test_p6_traceback_begins_with_the_users_own_frame(start: Serve, tmp_path: Path) -> None:
    write_module(tmp_path, "import json\ndef load(): return json.loads('{')\nSETTINGS = load()\n", "settings")
    answer = start("import settings\n").init("user_module")
    context = answer.body["context"]
    assert (context["module"], context["exception"]) == ("user_module", "json.decoder.JSONDecodeError")
    lines = context["traceback"].splitlines()
    assert lines[0].startswith("json.decoder.JSONDecodeError: ")
    assert lines[1:7] == [
        f'  File "{tmp_path}/settings.py", line 3, in load',
        "    def load(): return json.loads('{')",
        f'  File "{tmp_path}/settings.py", line 4, in <module>',
        "    SETTINGS = load()",
        f'  File "{tmp_path}/user_module.py", line 2, in <module>',
        "    import settings",
    ]
    assert "poolworker" not in context["traceback"]
    assert "importlib" not in context["traceback"]


def test_p6_users_package_is_the_users_even_among_the_libraries(start: Serve, tmp_path: Path) -> None:
    """As when an image installs its application with pip."""
    libraries = tmp_path / "site-packages"
    write_module(libraries, "import helper\nhelper.call(lambda: 1 / 0)", "application")
    write_module(libraries, "def call(f): f()", "helper")
    traceback = start().init("application", sysPath=[str(libraries)]).body["context"]["traceback"]
    shown = [line.rpartition(" in ")[2] for line in traceback.splitlines() if line.startswith("  File")]
    assert shown == ["<lambda>", "<module>", "call"]


def test_syntax_error_shows_file_line_and_caret(start: Serve, tmp_path: Path) -> None:
    text = start("x = (1,\ny = 2\n").init("user_module").body["context"]["traceback"]
    assert f'File "{tmp_path}/user_module.py", line ' in text
    assert "^" in text


def test_p8_equal_failures_have_equal_answers(start: Serve) -> None:
    source = "class Thing:\n    def __init__(self): raise ValueError('no')\nThing()"
    first, second = start(source).init("user_module"), start(source).init("user_module", worker="a-2")
    assert first == second


def test_p54_no_value_of_a_variable_leaves_with_a_traceback(start: Serve) -> None:
    answer = start("def connect(key): raise ValueError('refused')\nconnect('sk-' + '12' * 8)").init("user_module")
    assert "sk-12" not in json.dumps(answer.body)


def test_sigterm_during_the_import_is_143(start: Serve) -> None:
    worker = start("import time\nprint('importing')\ntime.sleep(600)")
    worker.read()
    worker.send(frames.INIT, json.dumps({"worker": "a", "mode": "spawn", "module": "user_module"}).encode())
    worker.stderr_until("importing")
    worker.process.terminate()
    assert worker.exit_code() == 143


BAD_INITS: Dict[str, Any] = {
    "no JSON": b"{",
    "no object": b"[1]",
    "no worker": {"worker": ""},
    "mode of another type": {"mode": 1},
    "path of another type": {"sysPath": "/app"},
    "limit of another type": {"maxPayload": "1"},
}


@pytest.mark.parametrize("case", BAD_INITS)
def test_p5_bad_init_is_refused_by_name(start: Serve, case: str) -> None:
    worker = start("")
    assert worker.read() is not None
    good = {"worker": "a", "mode": "spawn", "module": "user_module", "sysPath": [], "maxPayload": 1}
    change = BAD_INITS[case]
    payload = change if isinstance(change, bytes) else json.dumps({**good, **change}).encode()
    answer = worker.reply(worker.send(frames.INIT, payload))
    assert answer.type == "system_error/worker_boot_failed"
    assert "Init" in answer.message
    assert worker.exit_code() == 3


def test_a_request_before_init_ends_the_worker(start: Serve) -> None:
    worker = start("")
    worker.send(frames.REQUEST, b"{}", b"echo")
    assert worker.read() is not None
    assert worker.read() is None
    assert worker.exit_code() == 4


WHERE = "import sys\n@command\ndef path(): return sys.path\n@command\ndef where(): return __file__\n"


def test_import_path_begins_with_sys_path_else_the_working_directory(serve: Serve, tmp_path: Path) -> None:
    write_module(tmp_path / "other", WHERE)
    here = serve(WHERE)
    assert here.call("path").result[0] == str(tmp_path)
    assert here.call("path").result[-1] == INSTALLED
    there = serve(WHERE, sysPath=[str(tmp_path / "other"), str(tmp_path)])
    assert there.call("path").result[:2] == [str(tmp_path / "other"), str(tmp_path)]
    assert there.call("where").result == str(tmp_path / "other" / "user_module.py")


def test_files_named_like_standard_modules_break_nothing(serve: Serve, tmp_path: Path) -> None:
    for name in ("json", "struct", "typing", "signal", "traceback", "dataclasses", "poolworker"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('shadowed')\n")
    worker = serve("@command\ndef f(): 1 / 0")
    assert worker.call("f").message == "ZeroDivisionError: division by zero"


def test_package_installed_elsewhere_is_not_preferred(start: Serve, tmp_path: Path) -> None:
    """The user's image may hold another poolworker; the one that was started speaks this supervisor's protocol."""
    (tmp_path / "poolworker").mkdir()
    (tmp_path / "poolworker" / "__init__.py").write_text("raise RuntimeError('another version')\n")
    worker = start("@command\ndef f(): return 1", env={"PYTHONPATH": str(tmp_path)})
    worker.init("user_module")
    assert worker.call("f").result == 1


def test_a_module_imported_under_two_names_registers_once(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    write_module(tmp_path / "pkg", "@command\ndef f(): return 1", "inner")
    worker = serve("import sys\nsys.path.append('pkg')\nimport pkg.inner\nimport inner")
    assert worker.call("f").result == 1


def test_p114_an_older_python_is_told_what_is_needed(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    source = Path(INSTALLED, "__main__.py")
    ast.parse(source.read_text(encoding="utf-8"), feature_version=(3, 4))
    monkeypatch.setattr(sys, "version_info", (3, 8, 18, "final", 0))
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(source), run_name="__main__")
    assert caught.value.code == 3
    assert capsys.readouterr().err == (
        f"poolworker needs Python 3.9 or newer, and {sys.executable} is 3.8; "
        "set spec.worker.python to a newer interpreter\n"
    )


def test_p4_generation_of_init_is_in_every_answer(tmp_path: Path) -> None:
    write_module(tmp_path, "@command\ndef f(): return 1")
    with Worker(tmp_path) as worker:
        worker.init("user_module")
        for kind, meta in ((frames.PING, b""), (frames.REQUEST, b"f"), (frames.REQUEST, b"nope")):
            worker.send(kind, b"{}" if meta else b"", meta)
            frame = worker.read()
            assert frame is not None
            assert frame.generation == GENERATION
    assert not os.path.exists(f"/proc/{worker.process.pid}")
