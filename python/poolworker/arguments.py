"""Arguments are checked against the annotations of a command, and converted where JSON has no form for a type.

What an annotation says is compiled once, when the module has been imported. A call then costs a look at the type of
each argument; what is inside of one is looked at only where the annotation says something of it.

What can't be checked passes: a class that JSON has no values of, an annotation that can't be evaluated. `--check`
names each of these.
"""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, FrozenSet, List, NamedTuple, Optional

from poolworker import hints, nodes
from poolworker.compiler import Compiler
from poolworker.errors import (
    CallerError,
    Failure,
    UpstreamError,
    caller_error,
    invalid_payload,
    python_error,
    upstream_error,
)
from poolworker.mismatch import Mismatch
from poolworker.nodes import Node


class _Absent:
    """Stands for an argument that wasn't given, and has a default."""


_ABSENT = _Absent()


class Rule(NamedTuple):
    """One argument: the types of values that need no further look, and what looks at the others."""

    name: str
    passes: FrozenSet[type]
    node: Node


class Plan:
    """What is checked of a command's arguments, beside their names."""

    def __init__(self, rules: List[Rule], rest: Optional[Node], named: FrozenSet[str], notes: List[str]) -> None:
        """Check by rules; rest is for what `**` takes, which is all that isn't named. notes: what isn't checked."""
        self.notes = notes
        self._rules = tuple(rules)
        self._rest = rest
        self._named = named

    @property
    def empty(self) -> bool:
        """Whether nothing is checked."""
        return not self._rules and self._rest is None

    def apply(self, arguments: Dict[str, Any]) -> None:
        """Convert arguments in place. Raises Refused, and what code of the user's raises."""
        for name, passes, node in self._rules:
            value = arguments.get(name, _ABSENT)
            if type(value) not in passes:
                arguments[name] = _converted(name, node, value)
        if self._rest is not None:
            for name, value in arguments.items():
                if name not in self._named and type(value) not in self._rest.passes:
                    arguments[name] = _converted(name, self._rest, value)


class Refused(Exception):
    """A value that doesn't fit, with the path to it."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(problem)
        self.path = path
        self.problem = problem


def _converted(name: str, node: Node, value: Any) -> Any:
    try:
        return node.convert(value)
    except Mismatch as mismatch:
        raise Refused(mismatch.path(name), mismatch.problem) from None
    except RecursionError:
        raise Refused(name, "nested deeper than Python can follow") from None


def compile_plan(function: Callable[..., Any], signature: inspect.Signature) -> Plan:
    """Compile what a function's annotations say of its arguments."""
    annotated = hints.of_parameters(function, signature)
    notes: List[str] = []
    rules: List[Rule] = []
    rest = None
    for p in signature.parameters.values():
        if p.name not in annotated:
            continue
        compiler = Compiler(f'"{p.name}"', notes)
        if p.kind is p.VAR_KEYWORD:
            fields = compiler.unpacked(*annotated[p.name])
            if fields is None:
                rest = compiler.node(*annotated[p.name])
            else:
                rules += [_optional(name, node) for name, node in fields.items() if node is not None]
            continue
        node = compiler.node(*annotated[p.name])
        if node is not None:
            rules.append(_rule(p, node, notes))
    return Plan(rules, rest, frozenset(signature.parameters), notes)


def _rule(p: inspect.Parameter, node: Node, notes: List[str]) -> Rule:
    if p.default is p.empty:
        return Rule(p.name, node.passes, node)
    loose = nodes.of_default(node, p.default)
    if loose and p.default is not None:
        notes.append(
            f'"{p.name}" has a default that its annotation doesn\'t allow, so any {type(p.default).__name__} passes'
        )
    return Rule(p.name, node.passes | {_Absent} | loose, node)


def _optional(name: str, node: Node) -> Rule:
    return Rule(name, node.passes | {_Absent}, node)


def failure_of(error: Exception, signature: str, package: str) -> Failure:
    """Return what the failure of a check is to the caller: its own doing, or that of the user's code that it has run."""
    if isinstance(error, Refused):
        return invalid_payload(f"{error.path}: {error.problem}; it is {signature}", argument=error.path)
    if isinstance(error, Failure):
        return error
    if isinstance(error, CallerError):
        return caller_error(error)
    if isinstance(error, UpstreamError):
        return upstream_error(error, package)
    return python_error(error, package)
