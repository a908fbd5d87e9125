"""Commands: the functions of a user's module that callers reach by name."""

from __future__ import annotations

import inspect
import re
import sys
from typing import TYPE_CHECKING, Any, Callable, Dict, Final, FrozenSet, List, Optional, Tuple, TypeVar, Union, overload

if sys.version_info >= (3, 14):
    import annotationlib

from poolworker.errors import invalid_payload
from poolworker.registration import Registration, Site, location
from poolworker.standard import First

if TYPE_CHECKING:
    from poolworker.arguments import Plan, Rest, Rule

Handler = TypeVar("Handler", bound=Callable[..., Any])

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_Parameter = inspect.Parameter


class Absent:
    """Stands for an argument that wasn't given, and has a default."""


_ABSENT: Final = Absent()


class Command:
    """A registered function: its name, how it is called, and what is wrong with it, if anything."""

    __slots__ = (
        "_allowed", "_compiled", "_required", "_rest", "_rules", "_typed",
        "function", "location", "name", "parameters", "problems", "signature", "unchecked",
    )  # fmt: skip

    def __init__(self, name: str, function: Callable[..., Any], typed: bool = True) -> None:
        """Read the function's signature once, so that a call needs no introspection.

        typed: arguments are checked against its annotations, from compile on.
        """
        self.name = name
        self.function = function
        self.location = location(function)
        signature = _signature(function)
        self.parameters = list(signature.parameters.values())
        self.signature = name + _show(signature)
        self.problems = self._find_problems()
        self._allowed: Optional[FrozenSet[str]] = None  # None: anything
        by_name = [p for p in self.parameters if p.kind in (_Parameter.POSITIONAL_OR_KEYWORD, _Parameter.KEYWORD_ONLY)]
        if not any(p.kind is _Parameter.VAR_KEYWORD for p in self.parameters):
            self._allowed = frozenset(p.name for p in by_name)
        self._required = frozenset(p.name for p in by_name if p.default is _Parameter.empty)
        self._typed = typed and any(p.annotation is not p.empty for p in self.parameters)
        if self._typed:
            _compiler()  # now: what its module does later to the standard library mustn't reach it
        self._rules: Tuple[Rule, ...] = ()  # of named arguments; those without one are unchecked
        self._rest: Optional[Rest] = None  # of what `**` takes
        self._compiled = False
        self.unchecked: List[str] = []
        """What isn't checked although it is annotated, one sentence each; known after compile."""

    def compile(self) -> None:
        """Have arguments checked against the annotations, once the names in these have their meaning. Idempotent."""
        if self._compiled or not self._typed:
            return
        self._compiled = True
        self._rules, self._rest, self.unchecked = _compiler()(self.function, self.parameters)

    def check(self, arguments: Dict[str, Any]) -> None:
        """Convert arguments in place to what the annotations say.

        Raises Failure(invalid_payload) that names the first argument that doesn't fit, and the signature; or what the
        code of annotated classes raises, as such a failure.
        """
        if arguments.keys() != self._required:
            self._check_names(arguments)
        for name, passes, convert in self._rules:
            value = arguments.get(name, _ABSENT)
            if type(value) not in passes:
                try:
                    arguments[name] = convert(value)
                except Exception as error:  # noqa: BLE001 - also of the user's code
                    raise self._refusal(name, error) from None
        if self._rest is not None:
            self._check_rest(self._rest, arguments)

    def _check_rest(self, rest: Rest, arguments: Dict[str, Any]) -> None:
        named, passes, convert = rest
        for name, value in arguments.items():
            if name not in named and type(value) not in passes:
                try:
                    arguments[name] = convert(value)
                except Exception as error:  # noqa: BLE001 - also of the user's code
                    raise self._refusal(name, error) from None

    def _refusal(self, argument: str, error: Exception) -> Exception:
        from poolworker.arguments import failure_of

        package = str(getattr(self.function, "__module__", "")).partition(".")[0]
        return failure_of(error, argument, self.signature, package)

    def _check_names(self, arguments: Dict[str, Any]) -> None:
        given = arguments.keys()
        if self._allowed is not None and not given <= self._allowed:
            name = next(name for name in arguments if name not in self._allowed)
            raise invalid_payload(
                f'{self.name} has no argument "{_short(name)}"; it is {self.signature}', argument=_short(name)
            )
        if not given >= self._required:
            name = next(p.name for p in self.parameters if p.name in self._required and p.name not in arguments)
            raise invalid_payload(f'argument "{name}" is missing; it is {self.signature}', argument=name)

    def _find_problems(self) -> List[str]:
        problems = []
        if not _NAME.fullmatch(self.name):
            problems.append(
                f'its name "{_short(self.name)}" can\'t be part of a URL; use letters, digits, "_", "-" and ".", '
                'and start with a letter or "_"'
            )
        for p in self.parameters:
            if p.kind is _Parameter.POSITIONAL_ONLY:
                problems.append(
                    f'parameter "{p.name}" is positional-only, and arguments come by name; remove the "/" after it'
                )
            elif p.kind is _Parameter.VAR_POSITIONAL:
                problems.append(f'"*{p.name}" can never get a value, as arguments come by name; remove it')
        return problems


class Registry:
    """The commands of one process, by name."""

    def __init__(self) -> None:
        self.commands: Dict[str, Command] = {}
        self._registrations: Dict[str, Registration] = {}
        self._duplicates: List[str] = []

    def add(self, command: Command, site: Optional[Site] = None) -> None:
        """Add a command. The same function registered again (its module imported twice) replaces itself."""
        new = Registration(command.function, site)
        known = self._registrations.get(command.name)
        if known is not None and not new.same_statement(known):
            before, here = self.commands[command.name].location, command.location
            if before == here:  # that of a decorator, or a factory, which made both
                before, here = str(known.site or before), str(site or here)
            self._duplicates.append(
                f"command {command.name} is registered twice, at {before} and at {here}; "
                'rename one with @command(name="…")'
            )
        self._registrations[command.name] = new
        self.commands[command.name] = command

    def forget(self) -> None:
        """Let go of all functions: the worker ends, and what they hold is to be finalised."""
        self.commands.clear()
        self._registrations.clear()

    def problems(self) -> List[str]:
        """Everything that keeps a worker with these commands from serving, one sentence each."""
        found = list(self._duplicates)
        for command in self.commands.values():
            found += [f"command {command.name} ({command.location}): {problem}" for problem in command.problems]
        return found


registry: Final = Registry()
"""Where @command puts its functions."""


@overload
def command(function: Handler) -> Handler: ...
@overload
def command(*, name: Optional[str] = None, check: bool = True) -> Callable[[Handler], Handler]: ...
def command(
    function: Optional[Handler] = None, *, name: Optional[str] = None, check: bool = True
) -> Union[Handler, Callable[[Handler], Handler]]:
    """Make a function callable by name through the pool.

    The JSON object of a request becomes its keyword arguments, its return value the JSON result. `async def`
    works; one request at a time runs in a worker. What a generator yields, `async` or not, goes one by one to a caller
    that asks for a stream; any other gets it as one list. What is wrong with a function as a command (positional-only
    parameters, a name that is taken) is reported when the worker starts, and by
    `python -m poolworker --module M --check`.

    The function itself is returned unchanged, so that it can be called and tested as any other.

        @command
        def summarize(text: str, words: int = 50) -> str: ...

        @command(name="text.embed")
        async def embed(text: str) -> list[float]: ...

    name: what callers use; the function's own name by default.
    check: arguments are checked against the annotations, and converted where JSON has no form for a type (datetime,
    UUID, Decimal, Enum, dataclasses and more). A caller whose argument doesn't fit gets
    `request_error/invalid_payload`. False: arguments arrive as plain JSON, and only their names are checked.
    """

    def register(function: Handler, site: Optional[Site] = None) -> Handler:
        if not callable(function):
            raise TypeError(
                f"@command needs a function, not {function!r}; to give a name write @command(name={function!r})"
            )
        registry.add(
            Command(name or str(getattr(function, "__name__", type(function).__name__)), function, typed=check),
            site or Site.of(sys._getframe(1)),
        )
        return function

    return register if function is None else register(function, Site.of(sys._getframe(1)))


def _compiler() -> Callable[[Callable[..., Any], List[inspect.Parameter]], Plan]:
    with First():  # here, as a module without annotations needn't pay for it
        from poolworker.arguments import compile_plan

    return compile_plan


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        if sys.version_info >= (3, 14):  # where the default is to evaluate annotations, and names may be missing
            return inspect.signature(function, annotation_format=annotationlib.Format.STRING)
        return inspect.signature(function)
    except (TypeError, ValueError):  # some builtins have none: any arguments, and the function itself decides
        return inspect.Signature([_Parameter("arguments", _Parameter.VAR_KEYWORD)])


def _show(signature: inspect.Signature) -> str:
    """The signature as callers may see it: a default that is text could hold a secret and shows as `...`."""
    parameters = [
        p.replace(annotation=_as_written(p.annotation), default=p.default if _is_plain(p.default) else _Text("..."))
        for p in signature.parameters.values()
    ]
    return str(signature.replace(parameters=parameters, return_annotation=_as_written(signature.return_annotation)))


def _as_written(annotation: Any) -> Any:
    """Text is an annotation that wasn't evaluated; inspect would show it in quotes."""
    return _Text(annotation) if isinstance(annotation, str) else annotation


def _is_plain(default: Any) -> bool:
    return default is _Parameter.empty or default is None or type(default) in (bool, int, float)


class _Text:
    """Prints as its text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _short(name: str) -> str:
    return name if len(name) <= 100 else name[:99] + "…"
