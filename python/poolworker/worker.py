"""The worker's loop: Hello, Init, then one request at a time until the end of input."""

from __future__ import annotations

import json
import os
import sys
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Coroutine, Dict, Final, List, Optional

from poolworker import boot, codec, frames
from poolworker.commands import Command
from poolworker.errors import Failure, python_error
from poolworker.frames import Channel, Frame, ProtocolError
from poolworker.process import TERMINATED, Signals, limit_exit, take_over

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

PROTOCOL: Final = 1
EXIT_BOOT_FAILED: Final = 3
EXIT_PROTOCOL: Final = 4

_MAX_LISTED: Final = 100  # commands that an unknown_command error lists
_identity = ""


def worker_id() -> str:
    """The id that the pool gave to this worker, unique for the life of the slot; "" outside of a worker."""
    return _identity


def run(read_fd: int, write_fd: int) -> int:
    """Serve the supervisor at the other end of the two descriptors; returns the process's exit code.

    0: end of input or Shutdown. EXIT_BOOT_FAILED: Init was answered with an Error. EXIT_PROTOCOL: the supervisor
    sent something that isn't the protocol. A SystemExit that a handler raised goes through.
    """
    channel = take_over(read_fd, write_fd)
    worker = Worker(channel)
    try:
        return worker.serve()
    except BrokenPipeError:  # nobody is left to read the answer
        return 0
    except ProtocolError as error:
        print(f"poolworker: {error}; the worker ends", file=sys.stderr)
        return EXIT_PROTOCOL
    finally:
        limit_exit()
        worker.close()


class Worker:
    """One process's end of the protocol."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._signals = Signals()
        self._commands: Dict[bytes, Command] = {}
        self._package = ""
        self._generation = 0
        self._max_payload = frames.DEFAULT_MAX_PAYLOAD
        self._loop: Optional[AbstractEventLoop] = None

    def serve(self) -> int:
        """Run from Hello to the end; returns the exit code."""
        self._signals.install()
        hello = {"pid": os.getpid(), "python": "%d.%d.%d" % sys.version_info[:3], "protocol": PROTOCOL}
        self._channel.write(frames.encode(frames.HELLO, 0, 0, _json(hello)))
        init = self._channel.read()
        if init is None:
            return 0
        if init.kind != frames.INIT:
            raise ProtocolError(f"a frame of kind {init.kind} came before Init")
        if not self._initialise(init):
            return EXIT_BOOT_FAILED
        while self._step(self._channel.read()):
            if self._signals.terminating:  # a handler swallowed the SystemExit
                return TERMINATED
        return 0

    def close(self) -> None:
        """Release what handlers left: the event loop with its unfinished tasks."""
        if self._loop is not None:
            from poolworker import aio

            aio.close(self._loop)
            self._loop = None

    def _initialise(self, init: Frame) -> bool:
        global _identity
        self._generation = init.generation
        try:
            settings = _settings(init.payload)
            _identity = settings["worker"]
            self._max_payload = self._channel.max_payload = settings["maxPayload"]
            self._package = settings["module"].partition(".")[0]
            boot.prepend_path(settings["sysPath"])
            commands = boot.load(settings["module"]).commands
        except Failure as failure:
            self._reply(frames.ERROR, init.id, failure.encode())
            return False
        self._commands = {name.encode(): command for name, command in commands.items()}
        answer = {"worker": _identity, "mode": settings["mode"], "commands": sorted(commands)}
        self._reply(frames.RESULT, init.id, _json(answer))
        return True

    def _step(self, frame: Optional[Frame]) -> bool:
        """Answer one frame; False at the end."""
        if frame is None or frame.kind == frames.SHUTDOWN:
            return False
        if frame.generation != self._generation:
            raise ProtocolError(f"a frame for generation {frame.generation}, and this is {self._generation}")
        if frame.kind == frames.REQUEST:
            try:
                kind, payload = frames.RESULT, self._execute(frame)
            except Failure as failure:
                kind, payload = frames.ERROR, failure.encode()
            self._reply(kind, frame.id, payload)
        elif frame.kind == frames.PING:
            self._reply(frames.PONG, frame.id, b"")
        else:
            raise ProtocolError(f"a frame of kind {frame.kind}, which a worker doesn't take")
        return True

    def _execute(self, frame: Frame) -> bytes:
        command = self._commands.get(frame.meta)
        if command is None:
            raise self._unknown(frame.meta)
        arguments = codec.decode_arguments(frame.payload)
        command.check(arguments)
        result = codec.encode_result(command.name, self._call(command, arguments))
        if len(result) > self._max_payload:
            raise Failure(
                "communication_error",
                "frame_too_large",
                f"the result of {command.name} has {len(result)} bytes, at most {self._max_payload} are allowed; "
                "return less, or a reference to it",
                size=len(result),
                limit=self._max_payload,
            )
        return result

    def _call(self, command: Command, arguments: Dict[str, Any]) -> Any:
        """Run the handler. Only here can SIGINT interrupt, wherever in the block it lands."""
        signals = self._signals
        try:
            signals.interruptible = True
            result = command.function(**arguments)
            if type(result) is CoroutineType:
                result = self._await(result)
            signals.interruptible = False
            return result
        except SystemExit:  # the handler ends the process, with its own exit code
            raise
        except BaseException as error:  # also KeyboardInterrupt and CancelledError: the request has failed
            raise python_error(error, self._package) from None
        finally:
            signals.interruptible = False

    def _await(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        from poolworker import aio  # here, so that workers without async handlers never load asyncio

        if self._loop is None:
            self._loop = aio.open()
        return aio.run(self._loop, coroutine)

    def _unknown(self, meta: bytes) -> Failure:
        name = meta.decode("utf-8", "backslashreplace")[:200] or "(none given)"
        known: List[str] = sorted(command.name for command in self._commands.values())
        return Failure("request_error", "unknown_command", f"Unknown command: {name}", commands=known[:_MAX_LISTED])

    def _reply(self, kind: int, id: int, payload: bytes) -> None:
        self._channel.write(frames.encode(kind, self._generation, id, payload))


def _settings(payload: bytes) -> Dict[str, Any]:
    """Read Init's payload; what is absent or of another type is named."""
    try:
        settings = json.loads(payload)
        for key, kind in (("worker", str), ("mode", str), ("module", str)):
            if type(settings.get(key)) is not kind or not settings[key]:
                raise boot.boot_failure("", f'Init lacks a text "{key}"')
        settings["sysPath"] = [str(entry) for entry in settings.get("sysPath") or []]
        settings["maxPayload"] = int(settings.get("maxPayload") or frames.DEFAULT_MAX_PAYLOAD)
        return dict(settings)
    except (ValueError, TypeError, AttributeError) as error:
        raise boot.boot_failure("", f"Init isn't a JSON object of settings: {error}") from None


def _json(value: Any) -> bytes:
    return json.dumps(value).encode("ascii")
