"""Running one command: from its name and the bytes of its arguments to the bytes of its result."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Dict, Final, List, Mapping, Optional, Tuple

from poolworker import batch, codec
from poolworker.awaitables import as_coroutine, is_awaitable
from poolworker.commands import Command
from poolworker.errors import Failure, raised
from poolworker.frames import ProtocolError
from poolworker.process import Signals
from poolworker.programs import Programs
from poolworker.stacks import Step, of_coroutine
from poolworker.standard import First
from poolworker.streams import PLAIN, Abandoned, Collector, Outlet, drain, drain_async, is_async, is_stream

if TYPE_CHECKING:
    from poolworker.aio import Loop

_MAX_LISTED: Final = 100  # commands that an unknown_command error lists
_SENT: Final = object()  # result of a handler whose items were sent one by one


class Executor:
    """Calls commands, one at a time. Everything that goes wrong with a call is a Failure."""

    def __init__(
        self, commands: Mapping[str, Command], package: str, max_result: int, signals: Optional[Signals] = None
    ) -> None:
        """Serve commands; package is whose frames come first in tracebacks, max_result the limit in bytes."""
        self._commands: Dict[bytes, Command] = {name.encode(): command for name, command in commands.items()}
        for command in commands.values():  # those that came after the import
            command.compile()
        self._package = package
        self._max_result = max_result
        self._signals = Signals() if signals is None else signals
        self._loop: Optional[Loop] = None
        self.programs = Programs()

    def execute(self, name: bytes, payload: bytes, program: Optional[bytes] = None) -> bytes:
        """Run the command of that name. Raises Failure, or the SystemExit that a handler raised.

        program: hash of one that is held; its inputs stand where the payload has none.
        """
        command = self._commands.get(name)
        if command is None:
            raise self._unknown(name)
        arguments = codec.decode_arguments(payload)
        if program is not None:
            arguments = {**self.programs.inputs(program), **arguments}
        command.check(arguments)
        value = self._call(command, arguments)
        if type(value) is Collector:
            return value.encoded()
        result = codec.encode_result(command.name, value)
        if len(result) > self._max_result:
            raise self._too_large(command, len(result))
        return result

    def prepare(self, name: bytes, payload: bytes, program: Optional[bytes]) -> Tuple[Command, Dict[str, Any]]:
        """Find the command and decode its arguments. Raises Failure."""
        command = self._commands.get(name)
        if command is None:
            raise self._unknown(name)
        arguments = codec.decode_arguments(payload)
        if program is not None:
            arguments = {**self.programs.inputs(program), **arguments}
        command.check(arguments)
        return command, arguments

    def execute_stream(self, name: bytes, payload: bytes, program: Optional[bytes], outlet: Outlet) -> None:
        """Run the command and send what it yields to outlet; the result of one that doesn't yield is the only item.

        Raises what execute does, and Abandoned.
        """
        command, arguments = self.prepare(name, payload, program)
        value = self._call(command, arguments, lambda item: outlet.put(self.encode(command, item)))
        if value is not _SENT:
            outlet.put(self.encode(command, value))

    def execute_batch(self, name: bytes, payload: bytes, program: Optional[bytes] = None) -> Tuple[bytes, bytes]:
        """Run the command once for each of the payload's inputs, in order. Raises Failure for the batch as a whole.

        Returns the encoded outputs, and the type of failure that the batch counts as (empty: none). An interrupt ends
        the batch: whoever sent it waits for none of what is left.
        """
        command = self._commands.get(name)
        if command is None:
            raise self._unknown(name)
        outputs = batch.Outputs(partial(self._check_size, command))
        self._signals.interrupted = False
        for value in batch.inputs_of(payload):
            if self._signals.interrupted:
                raise self.failure(KeyboardInterrupt())
            try:
                arguments = batch.arguments_of(value, {} if program is None else self.programs.inputs(program))
                command.check(arguments)
                result = self.encode(command, self._call(command, arguments))
            except Failure as failure:
                outputs.failed(failure)
            else:
                outputs.succeeded(result)
        return outputs.encode(), outputs.worst()

    def collector(self, command: Command) -> Collector:
        """Return what makes one result of all that the command yields."""
        return Collector(partial(codec.encode_result, command.name), partial(self._check_size, command))

    def encode(self, command: Command, value: Any) -> bytes:
        """Encode a handler's result. Raises Failure."""
        if type(value) is Collector:
            return value.encoded()
        return self.bounded(command, codec.encode_result(command.name, value))

    def bounded(self, command: Command, result: bytes) -> bytes:
        """Return an encoded result. Raises Failure when it is over the limit."""
        self._check_size(command, len(result))
        return result

    def _check_size(self, command: Command, size: int) -> None:
        if size > self._max_result:
            raise self._too_large(command, size)

    def _too_large(self, command: Command, size: int) -> Failure:
        return Failure(
            "communication_error",
            "frame_too_large",
            f"the result of {command.name} has {size} bytes, at most {self._max_result} are allowed; "
            "return less, or a reference to it",
            size=size,
            limit=self._max_result,
        )

    def failure(self, error: BaseException) -> Failure:
        """Return what a handler's exception is to its caller."""
        return raised(error, self._package)

    def run(self, function: Callable[[], Any]) -> Any:
        """Run a hook, an async one on the loop of async handlers. What it raises goes through."""
        result = function()
        return self._await(result) if is_awaitable(result) else result

    def running(self) -> List[Tuple[int, List[Step]]]:
        """Return where the handler is if it is a task, which the thread's stack doesn't show; see stacks.Running."""
        task = self._loop.task if self._loop is not None else None
        return [] if task is None else [(0, of_coroutine(task.get_coro()))]

    def ends(self) -> bool:
        """Report whether it is the worker itself that cancels what runs on the loop."""
        return self._signals.over or self._signals.terminating

    def close(self) -> None:
        """Release what handlers left: the event loop with its unfinished tasks. Idempotent."""
        if self._loop is not None:
            self._loop.close()
            self._loop = None

    def _call(self, command: Command, arguments: Dict[str, Any], send: Optional[Callable[[Any], None]] = None) -> Any:
        """Run the handler. SIGINT interrupts only here, and the inner block lets it land anywhere in it.

        What it yields goes to send, and _SENT is returned; or, without that, into a Collector.
        """
        signals = self._signals
        try:
            try:
                signals.interruptible = True
                result = command.function(**arguments)
                if type(result) not in PLAIN:
                    result = self._resolve(command, result, send)
            finally:
                signals.interruptible = False
        except (SystemExit, Failure, Abandoned, ProtocolError):  # the handler ends the process, or nothing can be sent
            raise
        except BaseException as error:  # noqa: BLE001 - also KeyboardInterrupt, CancelledError
            raise self.failure(error) from None
        return result

    def _resolve(self, command: Command, result: Any, send: Optional[Callable[[Any], None]]) -> Any:
        """Await what is to be awaited, and take a stream's items."""
        if is_awaitable(result):
            result = self._await(result)
        if not is_stream(result):
            return result
        taken: Any = _SENT
        if send is None:
            taken = self.collector(command)
            send = taken.send
        self._signals.interrupted = False
        send = partial(self._between, send)
        if is_async(result):
            self._await(drain_async(result, send))
        else:
            drain(result, send)
        return taken

    def _between(self, send: Callable[[Any], None], item: Any) -> None:
        """Send what the handler has yielded; SIGINT, which would tear the frame, takes effect afterwards.

        What is raised here reaches the handler as its end, so nobody has to be told of it beforehand.
        """
        signals = self._signals
        cancel, signals.cancel, signals.interruptible = signals.cancel, None, False
        send(item)
        if signals.interrupted:
            raise KeyboardInterrupt
        signals.cancel, signals.interruptible = cancel, True

    def _await(self, awaitable: Any) -> Any:
        if self._loop is None or not self._loop.usable():
            with First():  # here, so that workers without async handlers never load asyncio
                from poolworker.aio import Loop

                self._loop = Loop(self._signals)
        return self._loop.run(as_coroutine(awaitable))

    def _unknown(self, name: bytes) -> Failure:
        shown = name.decode("utf-8", "backslashreplace")[:200] or "(none given)"
        known = sorted(command.name for command in self._commands.values())
        return Failure("request_error", "unknown_command", f"Unknown command: {shown}", commands=known[:_MAX_LISTED])
