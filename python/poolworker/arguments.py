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
from poolworker.errors import Failure, invalid_payload, raised
from poolworker.mismatch import Mismatch


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


def compile_plan(function: Callable[..., Any], parameters: List[inspect.Parameter]) -> Plan:
    """Compile what the annotations of a function's parameters say of its arguments."""
    notes: List[str] = []
    rules: List[Rule] = []
    rest: Optional[Rest] = None
    annotated = hints.of_parameters(function, parameters)
    for p in parameters:
        if p.name not in annotated:
            continue
        try:
            if p.kind is p.VAR_KEYWORD:
                of_keys, rest = _rest(p, annotated[p.name], frozenset(each.name for each in parameters), notes)
                rules += of_keys
            else:
                rules += _rule(p, annotated[p.name], notes)
        except Exception as error:  # noqa: BLE001 - annotations can be, and run, anything
            notes.append(f"\"{p.name}\" isn't checked: its annotation can't be read ({type(error).__name__})")
    return Plan(tuple(rules), rest, notes)


def _rest(
    p: inspect.Parameter, hint: hints.Hint, named: FrozenSet[str], notes: List[str]
) -> Tuple[List[Rule], Optional[Rest]]:
    """Return what checks each argument that `**` takes: by its name, as in `**kwargs: Unpack[T]`, or all alike."""
    compiler = Compiler(f'"{p.name}"', notes)
    fields = compiler.unpacked(*hint)
    if fields is not None:
        return [Rule(name, node.passes | {Absent}, node.convert) for name, node in fields.items() if node], None
    node = compiler.node(*hint)
    return [], None if node is None else Rest(named, node.passes, node.convert)


def _rule(p: inspect.Parameter, hint: hints.Hint, notes: List[str]) -> List[Rule]:
    node = Compiler(f'"{p.name}"', notes).node(*hint)
    if node is None:
        return []
    if p.default is p.empty:
        return [Rule(p.name, node.passes, node.convert)]
    loose = nodes.of_default(node, p.default)
    if loose and p.default is not None:
        notes.append(
            f'"{p.name}" has a default that its annotation doesn\'t allow, so any {type(p.default).__name__} passes'
        )
    return [Rule(p.name, node.passes | {Absent} | loose, node.convert)]


def failure_of(error: Exception, argument: str, signature: str, package: str) -> Failure:
    """Return what the failure of a check is to the caller: its own doing, or that of the user's code that has run."""
    if isinstance(error, RecursionError):
        error = Mismatch("nested deeper than Python can follow")
    if isinstance(error, Mismatch):
        path = error.path(argument)
        return invalid_payload(f"{path}: {error.problem}; it is {signature}", argument=path)
    return raised(error, package)
