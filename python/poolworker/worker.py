"""The worker's loop: Hello, Init, then requests until the end of input: one at a time, unless Init says otherwise."""

from __future__ import annotations

import sys
from functools import partial
from os import getpid
from typing import TYPE_CHECKING, Any, Callable, Dict, Final, Mapping, Optional, Tuple

from poolworker import boot, codec, current, endings, frames
from poolworker.commands import Command, registry
from poolworker.errors import Failure, invalid_payload
from poolworker.execute import Executor
from poolworker.frames import Channel, Fields, Frame, ProtocolError
from poolworker.hooks import WORKER_START, hooks
from poolworker.memory import Memory
from poolworker.process import TERMINATED, Signals, die_with_parent, limit_exit, private, take_over, tell
from poolworker.stacks import Stacks
from poolworker.standard import First
from poolworker.streams import Abandoned, Outlet
from poolworker.taken import decode_json, encode_json

if TYPE_CHECKING:
    from poolworker.concurrent import Multiplexer

PROTOCOL: Final = 1
EXIT_BOOT_FAILED: Final = 3
EXIT_PROTOCOL: Final = 4
EXIT_BROKEN: Final = 5

SPAWN: Final = "spawn"
FORK: Final = "fork"

_SETTINGS: Final = {
    "worker": str, "mode": str, "module": str, "sysPath": list, "maxPayload": int, "concurrency": int, "memory": int,
}  # fmt: skip

Load = Callable[[Dict[str, Any]], Mapping[str, Command]]

_identity = ""


def worker_id() -> str:
    """The id that the pool gave to this worker, unique for the life of the slot; "" outside of a worker."""
    return _identity


def run(read_fd: int, write_fd: int, memory_fd: int = -1) -> int:
    """Serve the supervisor at the other end of the two descriptors; returns the process's exit code.

    memory_fd: file of the memory shared with it; -1: there is none.

    0: end of input or Shutdown. EXIT_BOOT_FAILED: Init was answered with an Error. EXIT_PROTOCOL: the supervisor
    sent something that isn't the protocol. EXIT_BROKEN: user code broke what the worker runs on, its descriptors or
    its event loop. TERMINATED: SIGTERM. A SystemExit that a handler raised goes through.
    """
    channel = take_over(read_fd, write_fd)
    endings.announce()
    return _run(Worker(channel, SPAWN, _import, _memory(memory_fd)))


def run_forked(channel: Channel, module: str, supervisor: int, memory_fd: int) -> int:
    """Serve in a process that was forked with the module imported; returns the exit code, as run does.

    Init comes once the supervisor, which adopts orphans, has this process for a child.
    """

    def load(settings: Dict[str, Any]) -> Mapping[str, Command]:
        die_with_parent(supervisor)
        if settings["module"] != module:
            raise boot.boot_failure(module, f"Init is for module {settings['module']}, and {module} is loaded")
        return registry.commands

    return _run(Worker(channel, FORK, load, _memory(memory_fd)))


def _memory(fd: int) -> Optional[Memory]:
    return None if fd < 0 else Memory(private(fd))


def _run(worker: Worker) -> int:
    try:
        return worker.serve()
    except BrokenPipeError:  # nobody is left to read the answer
        return 0
    except ProtocolError as error:
        tell(f"{error}; the worker ends")
        return EXIT_PROTOCOL
    except SystemExit as error:
        error.__context__ = None
        raise error.with_traceback(None) from None  # its frames would keep what the module holds from being finalised
    except OSError as error:
        tell(f"the worker can't reach its supervisor, or can't wait for it any more: {error}; it ends. "
             "Has the module closed descriptors that aren't its own?")  # fmt: skip
        return EXIT_BROKEN
    finally:
        limit_exit()
        try:
            worker.close()
        except OSError as error:
            tell(f"what the worker used can't be closed: {error}")


class Worker:
    """One process's end of the protocol."""

    def __init__(self, channel: Channel, mode: str, load: Load, memory: Optional[Memory] = None) -> None:
        """Talk over channel; nothing is sent before serve. load: the commands, once Init's settings are known."""
        self._channel = channel
        self._memory = memory
        self._memory_from = sys.maxsize  # bytes of the smallest result that _encode_large encodes
        self._encode_large = frames.encode_reply
        self._mode = mode
        self._load = load
        self._signals = Signals()
        self._executor: Optional[Executor] = None
        self._multiplexed: Optional[Multiplexer] = None  # serves instead of the loop for one request at a time
        self._stacks: Optional[Stacks] = None
        self._generation = 0
        self._started = False

    def serve(self) -> int:
        """Run from Hello to the end; returns the exit code."""
        self._signals.install()
        hello = {"pid": getpid(), "python": sys.version.split()[0], "protocol": PROTOCOL}
        self._channel.write(frames.encode(frames.HELLO, 0, 0, _json(hello)))
        init = self._channel.read()
        if init is None:
            return 0
        if init.kind != frames.INIT:
            raise ProtocolError(f"a frame of kind {init.kind} came before Init")
        self._generation = init.generation
        try:
            executor = self._initialise(init)
        except Failure as failure:
            self._reply(frames.ERROR, init.id, failure.encode())
            return TERMINATED if self._signals.terminating else EXIT_BOOT_FAILED
        if self._multiplexed is not None:
            executor.run(self._multiplexed.serve)
        else:
            while not self._signals.terminating and self._answer(self._channel.receive(), executor):
                pass
        if self._signals.broken:
            tell(f"{self._signals.broken}; the worker ends")
            return EXIT_BROKEN
        return TERMINATED if self._signals.terminating else 0

    def close(self) -> None:
        """Run the hooks of worker_stop and release what handlers left. Idempotent."""
        executor, self._executor = self._executor, None
        if executor is None:
            return
        if self._started:
            hooks.stop(executor.run)
        executor.close()
        if self._stacks is not None:
            self._stacks.forget()

    def _initialise(self, init: Frame) -> Executor:
        """Load the module that Init names, run its hooks, and answer. Raises Failure(worker_boot_failed)."""
        global _identity
        settings = _settings(init.payload)
        _identity = settings["worker"]
        self._channel.max_payload = settings["maxPayload"]
        module = settings["module"]
        commands = self._load(settings)
        executor = self._executor = self._make_executor(commands, module.partition(".")[0], settings)
        hooks.begin(WORKER_START, module, executor.run)
        self._started = True
        answer: Dict[str, Any] = {"worker": _identity, "mode": self._mode, "codec": codec.name}
        answer["commands"] = sorted(commands)
        if self._use_memory(settings["memory"]):
            answer["memory"] = True
        if self._multiplexed is not None:
            answer["concurrency"] = settings["concurrency"]
        self._stacks = Stacks((self._multiplexed or executor).running)
        stack = self._stacks.offer()
        if stack is not None:
            answer["stack"] = stack
        self._reply(frames.RESULT, init.id, _json(answer))
        return executor

    def _use_memory(self, at_least: int) -> bool:
        """Let payloads of so many bytes go by memory, 0: none; returns whether they do."""
        if self._memory is None:
            return False
        if at_least == 0 or not self._memory.open():
            self._memory.close()
            return False
        self._channel.use_memory(self._memory.fetch)
        self._memory_from, self._encode_large = at_least, self._memory.encode_reply
        return True

    def _make_executor(self, commands: Mapping[str, Command], package: str, settings: Dict[str, Any]) -> Executor:
        if settings["concurrency"] == 1:
            return Executor(commands, package, settings["maxPayload"], self._signals)
        with First():  # asyncio and threads, for those who need it
            from poolworker.concurrent import ConcurrentExecutor, Multiplexer

        executor = ConcurrentExecutor(commands, package, settings["maxPayload"], self._signals, settings["concurrency"])
        self._multiplexed = Multiplexer(
            self._channel, self._generation, executor, self._reply, lambda frame: self._answer(frame, executor)
        )
        return executor

    def _answer(self, frame: Optional[Fields], executor: Executor) -> bool:
        """Answer one frame; False at the end. What a request costs beside its handler is spent here and in Executor."""
        if frame is None:
            return False
        kind, generation, id, budget, meta, payload, flags = frame
        if kind == frames.SHUTDOWN:
            return False
        if generation != self._generation:
            raise ProtocolError(f"a frame for generation {generation}, and this is {self._generation}")
        if kind == frames.REQUEST:
            if flags and flags & frames.FLAG_STREAM:
                return self._stream(frame, executor)
            kind, payload, meta = _execute(executor, id, flags, meta, payload, budget)
            encode = frames.encode_reply if len(payload) < self._memory_from else self._encode_large
            self._channel.write(encode(kind, generation, id, payload, meta))
        elif flags:
            raise ProtocolError(f"flags {flags:#04x} in a frame of kind {kind}")
        else:
            self._note(kind, id, meta, payload, executor)
        return True

    def _note(self, kind: int, id: int, meta: bytes, payload: bytes, executor: Executor) -> None:
        """Take a frame that asks for nothing to be run."""
        if kind == frames.PROGRAM:
            executor.programs.keep(meta, payload)
        elif kind == frames.FORGET:
            executor.programs.drop(meta)
        elif kind == frames.PING:
            self._reply(frames.PONG, id, b"")
        elif kind == frames.CREDIT:  # of a stream that has ended: it and the Result passed each other
            frames.credit_of(payload)
        else:
            raise ProtocolError(f"a frame of kind {kind}, which a worker doesn't take")

    def _stream(self, request: Fields, executor: Executor) -> bool:
        """Answer a Request for a stream; False when the input ended before it did."""
        _, _, id, budget, meta, payload, flags = request
        outlet = Outlet(partial(self._reply, frames.CHUNK, id), partial(self._more_credit, id))
        try:
            kind, payload, meta = _execute(executor, id, flags, meta, payload, budget, outlet)
        except Abandoned:
            return False
        self._reply(kind, id, payload, meta)
        return True

    def _more_credit(self, id: int) -> int:
        """Wait for a Credit of the stream that is running. Raises Abandoned at the end of input, or ProtocolError."""
        while True:
            frame = self._channel.receive()
            if frame is None or frame[0] == frames.SHUTDOWN:
                raise Abandoned
            kind, generation, stream, _, _, payload, flags = frame
            if kind != frames.CREDIT or generation != self._generation or flags:
                raise ProtocolError(f"a frame of kind {kind} while a stream waits for credit")
            credit = frames.credit_of(payload)
            if stream == id:
                return credit

    def _reply(self, kind: int, id: int, payload: bytes, meta: bytes = b"") -> None:
        self._channel.write(frames.encode_reply(kind, self._generation, id, payload, meta))


def _import(settings: Dict[str, Any]) -> Mapping[str, Command]:
    """Import the module in this very process. Raises Failure(worker_boot_failed)."""
    boot.prepend_path(settings["sysPath"])
    commands = boot.load(settings["module"]).commands
    hooks.preload(settings["module"])
    return commands


def _execute(
    executor: Executor, id: int, flags: int, meta: bytes, payload: bytes, budget: int, outlet: Optional[Outlet] = None
) -> Tuple[int, bytes, bytes]:
    """Run a Request; returns kind, payload and meta of its answer. outlet: takes the result's items one by one."""
    command, hash, session, program = frames.call_of(flags, meta) if flags else (meta, None, b"", b"")
    if hash is not None and not executor.programs.holds(hash):
        raise ProtocolError(f"a request of program {hash[:64]!r}, which isn't held")
    current.enter(session, program, budget)
    try:
        if id == 0:
            raise invalid_payload("the request has no id; give it one that isn't 0")
        if outlet is not None:
            return (frames.RESULT, *_stream(executor, flags, command, payload, hash, outlet))
        if flags & frames.FLAG_BATCH:
            return (frames.RESULT, *executor.execute_batch(command, payload, hash))
        return frames.RESULT, executor.execute(command, payload, hash), b""
    except Failure as failure:
        return frames.ERROR, failure.encode(), b""


def _stream(
    executor: Executor, flags: int, command: bytes, payload: bytes, hash: Optional[bytes], outlet: Outlet
) -> Tuple[bytes, bytes]:
    """Send a result's items to outlet; returns payload and meta of the Result that ends them."""
    counted = b""
    if flags & frames.FLAG_BATCH:
        outputs, counted = executor.execute_batch(command, payload, hash)
        outlet.put(outputs)
    else:
        executor.execute_stream(command, payload, hash, outlet)
    return outlet.total(), counted


def _settings(payload: bytes) -> Dict[str, Any]:
    """Read Init's payload; what is absent or of another type is named."""
    try:
        settings = dict(decode_json(payload.decode()))
    except (ValueError, TypeError) as error:
        raise boot.boot_failure("", f"Init isn't a JSON object of settings: {error}") from None
    settings["sysPath"] = settings.get("sysPath") or []
    settings["maxPayload"] = settings.get("maxPayload") or frames.DEFAULT_MAX_PAYLOAD
    settings["concurrency"] = settings.get("concurrency") or 1
    settings["memory"] = settings.get("memory") or 0
    for key, kind in _SETTINGS.items():
        if type(settings.get(key)) is not kind or not (settings[key] or kind is list or key == "memory"):
            raise boot.boot_failure("", f'Init must have "{key}" as a {kind.__name__}')
    if settings["concurrency"] < 1:
        raise boot.boot_failure("", f"Init has a concurrency of {settings['concurrency']}, which is below 1")
    if settings["memory"] < 0:
        raise boot.boot_failure("", f"Init has a memory of {settings['memory']} bytes, which is below 0")
    return settings


def _json(value: Any) -> bytes:
    return encode_json(value).encode("ascii")
