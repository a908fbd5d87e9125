"""Arguments are checked against the annotations of a command, and converted where JSON has no form for a type.

What an annotation says is compiled once, when the module has been imported. A call then costs a look at the type of
each argument; what is inside of one is looked at only where the annotation says something of it.

What can't be checked passes: a class that JSON has no values of, an annotation that can't be evaluated. `--check`
names each of these.
"""

from __future__ import annotations

import inspect
from typing import Any, Callable, FrozenSet, List, NamedTuple, Optional, Tuple

from poolworker import hints, nodes
from poolworker.commands import Absent
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


class Rule(NamedTuple):
    """One argument: the types of values that need no further look, and what looks at the others."""

    name: str
    passes: FrozenSet[type]
    convert: Callable[[Any], Any]


class Rest(NamedTuple):
    """What `**` takes, which is all that isn't named."""

    named: FrozenSet[str]
    passes: FrozenSet[type]
    convert: Callable[[Any], Any]


class Plan(NamedTuple):
    """What is checked of a command's arguments, beside their names."""

    rules: Tuple[Rule, ...]
    rest: Optional[Rest]
    notes: List[str]
    """What isn't checked although it is annotated."""


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
            rules += [_optional(name, node) for name, node in (fields or {}).items() if node is not None]
            node = compiler.node(*annotated[p.name]) if fields is None else None
            if node is not None:
                rest = Rest(frozenset(signature.parameters), node.passes, node.convert)
            continue
        node = compiler.node(*annotated[p.name])
        if node is not None:
            rules.append(_rule(p, node, notes))
    return Plan(tuple(rules), rest, notes)


def _rule(p: inspect.Parameter, node: Node, notes: List[str]) -> Rule:
    if p.default is p.empty:
        return Rule(p.name, node.passes, node.convert)
    loose = nodes.of_default(node, p.default)
    if loose and p.default is not None:
        notes.append(
            f'"{p.name}" has a default that its annotation doesn\'t allow, so any {type(p.default).__name__} passes'
        )
    return Rule(p.name, node.passes | {Absent} | loose, node.convert)


def _optional(name: str, node: Node) -> Rule:
    return Rule(name, node.passes | {Absent}, node.convert)


def failure_of(error: Exception, argument: str, signature: str, package: str) -> Failure:
    """Return what the failure of a check is to the caller: its own doing, or that of the user's code that has run."""
    if isinstance(error, RecursionError):
        error = Mismatch("nested deeper than Python can follow")
    if isinstance(error, Mismatch):
        path = error.path(argument)
        return invalid_payload(f"{path}: {error.problem}; it is {signature}", argument=path)
    if isinstance(error, CallerError):
        return caller_error(error)
    if isinstance(error, UpstreamError):
        return upstream_error(error, package)
    return python_error(error, package)
