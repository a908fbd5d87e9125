"""Running one command: from its name and the bytes of its arguments to the bytes of its result."""

from __future__ import annotations

from types import CoroutineType
from typing import TYPE_CHECKING, Any, Callable, Coroutine, Dict, Final, List, Mapping, Optional, Tuple

from poolworker import batch, codec
from poolworker.commands import Command
from poolworker.errors import CallerError, Failure, UpstreamError, caller_error, python_error, upstream_error
from poolworker.process import Signals
from poolworker.programs import Programs
from poolworker.stacks import Step, of_coroutine

if TYPE_CHECKING:
    from poolworker.aio import Loop

_MAX_LISTED: Final = 100  # commands that an unknown_command error lists


class Executor:
    """Calls commands, one at a time. Everything that goes wrong with a call is a Failure."""

    def __init__(
        self, commands: Mapping[str, Command], package: str, max_result: int, signals: Optional[Signals] = None
    ) -> None:
        """Serve commands; package is whose frames come first in tracebacks, max_result the limit in bytes."""
        self._commands: Dict[bytes, Command] = {name.encode(): command for name, command in commands.items()}
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
        result = codec.encode_result(command.name, self._call(command, arguments))
        if len(result) > self._max_result:
            raise self._too_large(command, len(result))
        return result

    def execute_batch(self, name: bytes, payload: bytes, program: Optional[bytes] = None) -> Tuple[bytes, bytes]:
        """Run the command once for each of the payload's inputs, in order. Raises Failure for the batch as a whole.

        Returns the encoded outputs, and the type of failure that the batch counts as (empty: none). An interrupt ends
        the batch: whoever sent it waits for none of what is left.
        """
        command = self._commands.get(name)
        if command is None:
            raise self._unknown(name)
        outputs = batch.Outputs()
        self._signals.interrupted = False
        for value in batch.inputs_of(payload):
            if self._signals.interrupted:
                raise self.failure(KeyboardInterrupt())
            try:
                arguments = batch.arguments_of(value, {} if program is None else self.programs.inputs(program))
                command.check(arguments)
                outputs.succeeded(self.encode(command, self._call(command, arguments)))
            except Failure as failure:
                outputs.failed(failure)
        return self.bounded(command, outputs.encode()), outputs.worst()

    def encode(self, command: Command, value: Any) -> bytes:
        """Encode a handler's result. Raises Failure."""
        return self.bounded(command, codec.encode_result(command.name, value))

    def bounded(self, command: Command, result: bytes) -> bytes:
        """Return an encoded result. Raises Failure when it is over the limit."""
        if len(result) > self._max_result:
            raise self._too_large(command, len(result))
        return result

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
        if isinstance(error, CallerError):
            return caller_error(error)
        if isinstance(error, UpstreamError):
            return upstream_error(error, self._package)
        return python_error(error, self._package)

    def run(self, function: Callable[[], Any]) -> Any:
        """Run a hook, an async one on the loop of async handlers. What it raises goes through."""
        result = function()
        return self._await(result) if type(result) is CoroutineType else result

    def running(self) -> List[Tuple[int, List[Step]]]:
        """Return where the handler is if it is a task, which the thread's stack doesn't show; see stacks.Running."""
        task = self._loop.task if self._loop is not None else None
        return [] if task is None else [(0, of_coroutine(task.get_coro()))]

    def close(self) -> None:
        """Release what handlers left: the event loop with its unfinished tasks. Idempotent."""
        if self._loop is not None:
            self._loop.close()
            self._loop = None

    def _call(self, command: Command, arguments: Dict[str, Any]) -> Any:
        """Run the handler. SIGINT interrupts only here, and the inner block lets it land anywhere in it."""
        signals = self._signals
        try:
            try:
                signals.interruptible = True
                result = command.function(**arguments)
                if type(result) is CoroutineType:
                    result = self._await(result)
            finally:
                signals.interruptible = False
        except SystemExit:  # the handler ends the process, with its own exit code
            raise
        except BaseException as error:  # noqa: BLE001 - also KeyboardInterrupt, CancelledError
            raise self.failure(error) from None
        return result

    def _await(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        from poolworker.aio import Loop  # here, so that workers without async handlers never load asyncio

        if self._loop is None:
            self._loop = Loop()
        return self._loop.run(coroutine, self._signals)

    def _unknown(self, name: bytes) -> Failure:
        shown = name.decode("utf-8", "backslashreplace")[:200] or "(none given)"
        known = sorted(command.name for command in self._commands.values())
        return Failure("request_error", "unknown_command", f"Unknown command: {shown}", commands=known[:_MAX_LISTED])
