"""Several requests at once in one worker: async handlers on the event loop, all others in threads.

A handler that isn't async runs in a thread with a copy of its request's context, as it would block all others on the
loop. A thread can't be interrupted: cancelled, it goes on to its end, or to its next `yield`, and the supervisor, which
knows how long that may take, replaces the worker.
"""

from __future__ import annotations

from asyncio import CancelledError, Future, Task, current_task, get_running_loop, wait
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from threading import get_ident
from typing import Any, Callable, Dict, Final, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from poolworker import batch, current, frames
from poolworker.awaitables import is_async_function, is_awaitable
from poolworker.commands import Command
from poolworker.concurrent_streams import ConcurrentOutlet
from poolworker.errors import Failure, invalid_payload
from poolworker.execute import Executor
from poolworker.frames import Call, Channel, Frame, ProtocolError
from poolworker.process import Signals
from poolworker.stacks import Step, of_coroutine, of_thread
from poolworker.streams import PLAIN, Abandoned, drain, drain_async, is_async, is_stream

Answer = Tuple[int, bytes, bytes]  # kind, payload and meta
Reply = Callable[[int, int, bytes, bytes], None]
Other = Callable[[Optional[Frame]], bool]


class Prepared(NamedTuple):
    """A call whose arguments are known to fit; or a batch, whose inputs are looked at one by one."""

    command: Command
    arguments: Dict[str, Any]
    inputs: Optional[List[Any]] = None  # of a batch
    fixed: Callable[[], Dict[str, Any]] = dict  # what stands in each of those that has none of that name


class ConcurrentExecutor(Executor):
    """Calls commands, up to a number of them at the same time, on its event loop."""

    def __init__(
        self, commands: Mapping[str, Command], package: str, max_result: int, signals: Signals, concurrency: int
    ) -> None:
        """Serve commands as Executor does, with so many threads for those that aren't async."""
        super().__init__(commands, package, max_result, signals)
        self.concurrency: Final = concurrency
        self._threads = ThreadPoolExecutor(concurrency, "poolworker")
        self._thread_of: Dict[Optional[Task[Any]], int] = {}  # that runs a handler for a task, by its ident
        self._async = frozenset(name for name, command in self._commands.items() if is_async_function(command.function))
        self._left_threads: Set[Optional[Task[Any]]] = set()  # whose handlers go on as coroutines
        self._given_up: Set[Optional[Task[Any]]] = set()  # while their handlers run in threads
        current.separate()

    def prepare_batch(self, name: bytes, payload: bytes, program: Optional[bytes]) -> Prepared:
        """Find the command and decode a batch's inputs. Raises Failure."""
        command = self._commands.get(name)
        if command is None:
            raise self._unknown(name)
        fixed = dict if program is None else self.programs.source(program)
        return Prepared(command, {}, batch.inputs_of(payload), fixed)

    def is_async(self, command: Command) -> bool:
        """Whether its handler is known to run on the loop, and so can be cancelled at any time."""
        return command.name.encode() in self._async

    def give_up(self, task: Task[Any], command: Command) -> None:
        """Cancel a call, at once or as soon as its handler has come out of its thread."""
        if self.is_async(command) or task in self._left_threads:
            task.cancel()
        else:
            self._given_up.add(task)
            task.add_done_callback(self._given_up.discard)

    async def call(self, prepared: Prepared, outlet: Optional[ConcurrentOutlet] = None) -> Tuple[bytes, bytes]:
        """Run the handler to its end; returns payload and meta of the Result: with an outlet, how many items it took.

        Raises Failure, Abandoned, CancelledError, or the SystemExit that the handler raised.
        """
        command, arguments, inputs, _ = prepared
        meta = b""
        if inputs is not None:
            payload, meta = await self._call_each(prepared, inputs)
            result: Optional[bytes] = payload
        else:
            result = await self._call_one(command, arguments, outlet)
        if outlet is None:
            return result or b"", meta
        if result is not None:
            await outlet.put(result)
        return outlet.total(), meta

    async def _call_each(self, prepared: Prepared, inputs: List[Any]) -> Tuple[bytes, bytes]:
        command, _, _, fixed = prepared
        outputs = batch.Outputs(partial(self._check_size, command))
        for value in inputs:
            try:
                own = batch.arguments_of(value, fixed())
                command.check(own)
                result = await self._call_one(command, own) or b""
            except Failure as failure:
                outputs.failed(failure)
            else:
                outputs.succeeded(result)
        return outputs.encode(), outputs.worst()

    async def _call_one(
        self, command: Command, arguments: Dict[str, Any], outlet: Optional[ConcurrentOutlet] = None
    ) -> Optional[bytes]:
        """Run the handler; None: what it yielded has gone to outlet."""
        try:
            if self.is_async(command):
                result = command.function(**arguments)
                if is_awaitable(result):
                    result = await result
            else:
                result = await self._in_thread(self._call_here, command, arguments, outlet)
                if is_awaitable(result):
                    result = await self._on_loop(result)
            if is_stream(result):
                result = await self._drain(command, result, outlet)
        except (Failure, Abandoned, SystemExit, CancelledError):
            raise
        except BaseException as error:  # noqa: BLE001 - also KeyboardInterrupt
            raise self.failure(error) from None
        if outlet is not None and result is outlet:
            return None
        return self.encode(command, result)

    async def _drain(self, command: Command, items: Any, outlet: Optional[ConcurrentOutlet]) -> Any:
        """Take a stream's items, on the loop only if they have to be awaited; returns who has them."""
        if not is_async(items):
            return await self._in_thread(self._drain_here, command, items, outlet)
        if outlet is None:
            collector = self.collector(command)
            await drain_async(items, collector.send)
            return collector
        put = outlet.put
        await drain_async(items, lambda item: put(self.encode(command, item)))
        return outlet

    async def _on_loop(self, awaitable: Any) -> Any:
        """Await what a function in a thread has returned. From here on it can be cancelled."""
        task = current_task()
        self._left_threads.add(task)
        try:
            if task in self._given_up:
                raise CancelledError
            return await awaitable
        finally:
            self._left_threads.discard(task)

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        context = copy_context()
        loop = get_running_loop()
        task = current_task()
        return await loop.run_in_executor(self._threads, context.run, self._protected, task, function, *arguments)

    def _protected(self, task: Optional[Task[Any]], function: Callable[..., Any], *arguments: Any) -> Any:
        self._thread_of[task] = get_ident()
        try:
            return function(*arguments)
        except (Failure, Abandoned, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - no future takes a StopIteration
            raise self.failure(error) from None
        finally:
            del self._thread_of[task]

    def where(self, task: Task[Any]) -> List[Step]:
        """Return the stack of the handler that runs for a task."""
        ident = self._thread_of.get(task)
        return of_coroutine(task.get_coro()) if ident is None else of_thread(ident)

    def _call_here(self, command: Command, arguments: Dict[str, Any], outlet: Optional[ConcurrentOutlet]) -> Any:
        result = command.function(**arguments)
        if type(result) in PLAIN or is_awaitable(result) or not is_stream(result) or is_async(result):
            return result
        return self._drain_here(command, result, outlet)

    def _drain_here(self, command: Command, items: Any, outlet: Optional[ConcurrentOutlet]) -> Any:
        if outlet is None:
            collector = self.collector(command)
            drain(items, collector.send)
            return collector
        put = outlet.put_from_thread
        drain(items, lambda item: put(self.encode(command, item)))
        return outlet

    def close(self) -> None:
        """Release what handlers left. A thread that goes on holds up the exit, which is bounded."""
        super().close()
        self._threads.shutdown(wait=False)


class _Running:
    """A request whose handler runs."""

    __slots__ = ("cancelled", "command", "outlet", "task")

    def __init__(self, task: Task[Answer], command: Command, outlet: Optional[ConcurrentOutlet]) -> None:
        self.task = task
        self.command = command
        self.outlet = outlet  # of a stream
        self.cancelled = False


class Multiplexer:
    """The worker's loop where it serves several requests: each is answered when its handler ends."""

    def __init__(
        self, channel: Channel, generation: int, executor: ConcurrentExecutor, reply: Reply, other: Other
    ) -> None:
        """Read from channel. reply writes an answer; other takes the frames that aren't requests or cancel one."""
        self._channel = channel
        self._generation = generation
        self._executor = executor
        self._reply = reply
        self._other = other
        self._running: Dict[int, _Running] = {}
        self._closing = False

    def running(self) -> List[Tuple[int, List[Step]]]:
        """Return where the handlers of all requests are; see stacks.Running."""
        return [(id, self._executor.where(running.task)) for id, running in self._running.items()]

    async def serve(self) -> None:
        """Serve until the end of input or Shutdown, and then until what runs has ended.

        Raises ProtocolError, BrokenPipeError when nobody reads the answers, or the SystemExit of a handler.
        """
        loop = get_running_loop()
        self._loop = loop
        self._ended: Future[None] = loop.create_future()
        fd = self._channel.fileno()
        loop.add_reader(fd, self._read)
        try:
            try:
                await self._until_ended()
            finally:
                loop.remove_reader(fd)
            while self._running:
                await self._unless_ending([running.task for running in self._running.values()])
        finally:
            self._closing = True

    async def _until_ended(self) -> None:
        """Wait for the end. A handler that cancels all tasks of the loop, as asyncio.run() does, isn't that."""
        while not self._ended.done():
            await self._unless_ending([self._ended])
        self._ended.result()

    async def _unless_ending(self, awaited: Sequence[Future[Any]]) -> None:
        try:
            await wait(awaited)
        except CancelledError:
            if self._executor.ends():
                if self._ended.done():
                    self._ended.exception()  # what it was, the loop has raised already
                raise

    def _read(self) -> None:
        """Take the frames that have come. Of one that has come in part it waits for the rest: they are sent whole."""
        try:
            more = self._take(self._channel.read())
            while more and self._channel.buffered:
                more = self._take(self._channel.read())
        except Exception as error:  # noqa: BLE001 - whatever it is, the stream is out of step
            self._end(error)
        else:
            if not more:
                self._end(None)

    def _end(self, error: Optional[BaseException]) -> None:
        """Read no more; with an error the worker doesn't wait for what runs. No stream gets any more credit."""
        if self._ended.done():
            return
        for running in self._running.values():
            if running.outlet is not None:
                running.outlet.abandon()
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)

    def _take(self, frame: Optional[Frame]) -> bool:
        """Take one frame; False at the end. Raises ProtocolError."""
        if frame is not None and frame.generation == self._generation:
            if frame.kind == frames.REQUEST:
                self._begin(frame)
                return True
            if frame.kind == frames.CANCEL and not frame.flags:
                self._cancel(frame.id)
                return True
            if frame.kind == frames.CREDIT and not frame.flags:
                self._grant(frame.id, frames.credit_of(frame.payload))
                return True
        return self._other(frame)

    def _begin(self, request: Frame) -> None:
        """Start a request's handler. Arguments are decoded at once: the program may be forgotten right after."""
        call = frames.call_of(request.flags, request.meta)
        if call.hash is not None and not self._executor.programs.holds(call.hash):
            raise ProtocolError(f"a request of program {call.hash[:64]!r}, which isn't held")
        if request.id in self._running:
            raise ProtocolError(f"a second request {request.id} while the first is running")
        if len(self._running) == self._executor.concurrency:
            raise ProtocolError(f"a request beyond the {self._executor.concurrency} that are running")
        try:
            if request.id == 0:
                raise invalid_payload("the request has no id; give it one that isn't 0")
            batched = request.flags & frames.FLAG_BATCH
            if batched:
                prepared = self._executor.prepare_batch(call.command, request.payload, call.hash)
            else:
                prepared = Prepared(*self._executor.prepare(call.command, request.payload, call.hash))
        except Failure as failure:
            self._reply(frames.ERROR, request.id, failure.encode(), b"")
            return
        outlet = None
        if request.flags & frames.FLAG_STREAM:
            outlet = ConcurrentOutlet(self._loop, partial(self._chunk, request.id))
        task = copy_context().run(self._start, request, call, prepared, outlet)
        self._running[request.id] = _Running(task, prepared.command, outlet)
        task.add_done_callback(partial(self._done, request.id, prepared.command.name))

    def _start(
        self, request: Frame, call: Call, prepared: Prepared, outlet: Optional[ConcurrentOutlet]
    ) -> Task[Answer]:
        """Make the task. It copies the context that this is called in, and so keeps what is entered here."""
        current.enter(call.session, call.program, request.budget)
        return self._loop.create_task(self._answer(request.id, prepared, outlet))

    async def _answer(self, id: int, prepared: Prepared, outlet: Optional[ConcurrentOutlet]) -> Answer:
        try:
            payload, meta = await self._executor.call(prepared, outlet)
            return frames.RESULT, payload, meta
        except Failure as failure:
            return frames.ERROR, failure.encode(), b""
        except Abandoned:
            return frames.ERROR, _cancelled(prepared.command.name).encode(), b""
        except CancelledError as error:
            if self._closing or self._running[id].cancelled:
                raise
            return frames.ERROR, self._executor.failure(error).encode(), b""  # the handler's own

    def _cancel(self, id: int) -> None:
        """Cancel one request's task. One that isn't there has ended meanwhile, and its answer is on its way."""
        running = self._running.get(id)
        if running is not None and not running.cancelled:
            running.cancelled = True
            self._executor.give_up(running.task, running.command)
            if running.outlet is not None:  # a thread, too, ends where it yields
                running.outlet.abandon()

    def _grant(self, id: int, credit: int) -> None:
        """Give a stream credit. One that isn't there has ended: its Result and the Credit passed each other."""
        running = self._running.get(id)
        if running is not None and running.outlet is not None:
            running.outlet.grant(credit)

    def _chunk(self, id: int, chunk: bytes) -> None:
        """Write one item of a stream."""
        if self._closing:
            return
        try:
            self._reply(frames.CHUNK, id, chunk, b"")
        except OSError as broken:
            self._end(broken)

    def _done(self, id: int, command: str, task: Task[Answer]) -> None:
        """Write the answer; in this one place, as a task that is cancelled before its first step never runs."""
        running = self._running.pop(id)
        error = None if task.cancelled() else task.exception()
        if self._closing:
            return
        if error is not None:  # a SystemExit, which has ended the loop already
            self._end(error)
            return
        if not task.cancelled():
            kind, payload, meta = task.result()
        else:  # before its first step, or by itself in its last
            failure = _cancelled(command) if running.cancelled else self._executor.failure(CancelledError())
            kind, payload, meta = frames.ERROR, failure.encode(), b""
        try:
            self._reply(kind, id, payload, meta)
        except OSError as broken:
            self._end(broken)


def _cancelled(command: str) -> Failure:
    return Failure("request_error", "cancelled", f"{command} was cancelled, as its caller has given up")
