"""Annotations, and what they mean where they were written: as text, as a forward reference, behind TYPE_CHECKING."""

from __future__ import annotations

import ast
import inspect
import sys
from ast import BitOr, Load, Name, Subscript, fix_missing_locations, parse
from ast import Tuple as TupleNode
from collections import ChainMap
from functools import partial
from inspect import isclass, ismethod, unwrap
from typing import Any, Callable, Dict, Final, ForwardRef, Iterable, Mapping, NamedTuple, Optional, Tuple, Union

if sys.version_info >= (3, 14):
    import annotationlib


class Names(NamedTuple):
    """What names mean in an annotation."""

    globals: Dict[str, Any]
    locals: Mapping[str, Any]


class UnresolvedError(Exception):
    """An annotation that can't be evaluated; the text says why."""


Hint = Tuple[Any, Names]


def of_parameters(function: Callable[..., Any], parameters: Iterable[inspect.Parameter]) -> Dict[str, Hint]:
    """Return the annotations of those parameters that have one."""
    inner = _innermost(function)
    names = _names_of_function(inner)
    written = _annotations(inner)
    hints = {}
    for p in parameters:
        if p.annotation is not p.empty:
            evaluated = isinstance(p.annotation, str) and p.name in written
            hints[p.name] = (written[p.name] if evaluated else p.annotation, names)
    return hints


def of_class(cls: type) -> Dict[str, Hint]:
    """Return the annotations of a class's attributes, its bases' too."""
    hints: Dict[str, Hint] = {}
    for base in reversed(cls.__mro__):
        names = _names_of_class(base)
        hints.update({name: (hint, names) for name, hint in _annotations(base).items()})
    return hints


def evaluate(hint: Any, names: Names) -> Any:
    """Return what an annotation means that is text or a forward reference; any other is itself.

    Raises UnresolvedError.
    """
    while isinstance(hint, (str, ForwardRef)):
        text = hint if isinstance(hint, str) else hint.__forward_arg__
        module = sys.modules.get(getattr(hint, "__forward_module__", None) or "")
        scope = names if module is None else Names(vars(module), names.locals)
        try:
            hint = _evaluate(text, scope)
        except Exception as error:  # noqa: BLE001 - it runs the user's code
            raise UnresolvedError(f"{text[:100]!r} can't be evaluated ({type(error).__name__})") from None
    return hint


def _evaluate(text: str, names: Names) -> Any:
    try:
        return eval(text, names.globals, names.locals)  # noqa: S307 - the user's own code, as typing evaluates it
    except TypeError:
        if sys.version_info >= (3, 10) or "|" not in text:
            raise
    tree = fix_missing_locations(_Unions().visit(parse(text.strip(), mode="eval")))
    scope = {**names.locals, _UNION: Union}
    return eval(compile(tree, "<annotation>", "eval"), names.globals, scope)  # noqa: S307


_UNION: Final = "__poolworker_union__"


class _Unions(ast.NodeTransformer):
    """Makes `X | Y` what Pythons before 3.10 can evaluate."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, BitOr):
            return node
        pair = TupleNode(elts=[node.left, node.right], ctx=Load())
        return Subscript(value=Name(id=_UNION, ctx=Load()), slice=pair, ctx=Load())


def _innermost(function: Any) -> Any:
    """Return the function whose annotations the signature shows."""
    for _ in range(100):
        inner = unwrap(function) if callable(function) else function
        if isinstance(inner, partial):
            inner = inner.func
        elif ismethod(inner):
            inner = inner.__func__
        elif isclass(inner):
            inner = inner.__init__ if "__init__" in vars(inner) else inner.__new__
        elif not hasattr(inner, "__globals__"):
            called = getattr(type(inner), "__call__", None)  # noqa: B004 - itself is looked at
            inner = called if hasattr(called, "__globals__") else inner
        if inner is function:
            return inner
        function = inner
    return function


def _names_of_function(function: Any) -> Names:
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None) or ()
    local: Dict[str, Any] = {parameter.__name__: parameter for parameter in getattr(function, "__type_params__", ())}
    for name, cell in zip(code.co_freevars if code is not None else (), cells):
        try:
            local[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return Names(getattr(function, "__globals__", None) or _module_of(function), local)


def _names_of_class(cls: type) -> Names:
    """As typing does it, the module's names first: a field often has the name of its type."""
    parameters = {parameter.__name__: parameter for parameter in getattr(cls, "__type_params__", ())}
    return Names({cls.__name__: cls, **vars(cls)}, ChainMap(parameters, _module_of(cls)))


def _module_of(thing: Any) -> Dict[str, Any]:
    module: Optional[Any] = sys.modules.get(getattr(thing, "__module__", None) or "")
    return {} if module is None else vars(module)


def _annotations(thing: Any) -> Dict[str, Any]:
    """Return the annotations as they stand; where Python evaluates them on demand, evaluated as far as can be."""
    try:
        if sys.version_info >= (3, 14):
            return dict(annotationlib.get_annotations(thing, format=annotationlib.Format.FORWARDREF))
        if isinstance(thing, type):
            return dict(vars(thing).get("__annotations__", {}))
        return dict(getattr(thing, "__annotations__", {}))
    except Exception:  # noqa: BLE001 - evaluating them runs the user's code
        return {}
