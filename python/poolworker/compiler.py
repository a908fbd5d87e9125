"""From an annotation to what it says of a JSON value."""

from __future__ import annotations

import collections
import collections.abc
import types
from enum import Enum
from typing import (
    Any,
    Callable,
    Dict,
    Final,
    ForwardRef,
    FrozenSet,
    List,
    Literal,
    Optional,
    Tuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from poolworker import models, nodes
from poolworker.conversions import reader
from poolworker.hints import Names, UnresolvedError, evaluate
from poolworker.nodes import Made, Node

_SCALARS: Final[Dict[Any, Node]] = {
    None: nodes.NONE,
    type(None): nodes.NONE,
    str: nodes.STRING,
    bool: nodes.BOOLEAN,
    int: nodes.INTEGER,
    float: nodes.NUMBER,
}
_ANYTHING: Final[FrozenSet[Any]] = frozenset({Any, object, collections.abc.Hashable, collections.abc.Sized})
_ARRAYS: Final[Dict[Any, Optional[Callable[[List[Any]], Any]]]] = {
    list: None,
    collections.abc.Sequence: None,
    collections.abc.MutableSequence: None,
    collections.abc.Collection: None,
    collections.abc.Iterable: None,
    collections.abc.Reversible: None,
    collections.abc.Container: None,
    set: set,
    collections.abc.Set: set,
    collections.abc.MutableSet: set,
    frozenset: frozenset,
    collections.deque: collections.deque,
}
_OBJECTS: Final[Dict[Any, Optional[Callable[[Dict[Any, Any]], Any]]]] = {
    dict: None,
    collections.abc.Mapping: None,
    collections.abc.MutableMapping: None,
    collections.OrderedDict: collections.OrderedDict,
    collections.Counter: collections.Counter,
}
_WRAPPERS: Final = frozenset({"Required", "NotRequired", "ReadOnly", "Final", "ClassVar"})
_UNION: Final = getattr(types, "UnionType", Union)


class Compiler:
    """Compiles the annotation of one argument."""

    def __init__(self, subject: str, notes: List[str]) -> None:
        """Subject is what notes say isn't checked, or not whole, and why."""
        self._subject = subject
        self._notes = notes
        self._named: Dict[Any, Made] = {}  # what can hold itself: classes, and aliases by their text

    def node(self, hint: Any, names: Names) -> Made:
        """Compile an annotation, of which names have that meaning."""
        if isinstance(hint, ForwardRef):
            return self._once((hint.__forward_arg__, id(names)), lambda: self._node(hint, names))
        if isinstance(hint, str):
            return self._once((hint, id(names)), lambda: self._node(hint, names))
        if hasattr(hint, "__value__"):  # of a `type` statement
            return self._once((hint, id(names)), lambda: self._node(hint, names))
        return self._node(hint, names)

    def _once(self, key: Any, compile_it: Callable[[], Made]) -> Made:
        """Compile what has a name, and where it turns up inside of itself refer to it."""
        if key not in self._named:
            self._named[key] = nodes.make((), nodes.JSON, "another value", lambda v: nodes.apply(self._named[key], v))
            self._named[key] = compile_it()
        return self._named[key]

    def _node(self, hint: Any, names: Names) -> Made:
        try:
            hint = evaluate(hint, names)
            if hasattr(hint, "__value__"):
                return self.node(hint.__value__, names)
        except (UnresolvedError, NameError) as error:
            return self._unchecked(str(error))
        if hasattr(hint, "__supertype__"):  # a NewType
            return self.node(hint.__supertype__, names)
        if type(hint).__name__ == "InitVar":
            return self.node(hint.type, names)
        origin = get_origin(hint)
        if origin is not None:
            return self._generic(hint, origin, names)
        return self._bare(hint)

    def unpacked(self, hint: Any, names: Names) -> Optional[Dict[str, Made]]:
        """Compile the fields of T in `**kwargs: Unpack[T]`; None: it is something else."""
        try:
            hint = evaluate(hint, names)
            if getattr(get_origin(hint), "_name", "") != "Unpack":
                return None
            return models.fields_of(evaluate(get_args(hint)[0], names), self.node)
        except UnresolvedError:
            return None

    def _unchecked(self, why: str) -> Made:
        note = f"{self._subject} isn't checked, or not whole: {why}"
        if note not in self._notes:
            self._notes.append(note)
        return None

    def _bare(self, hint: Any) -> Made:
        """Compile what has no arguments."""
        try:
            if hint in _SCALARS:
                return _SCALARS[hint]
            if hint in _ANYTHING or isinstance(hint, (TypeVar,)):
                return None
        except TypeError:  # it has no hash
            return self._unchecked("its annotation is no type")
        if hint in _ARRAYS:
            return nodes.array(None, _ARRAYS[hint])
        if hint in _OBJECTS:
            return nodes.mapping(None, None, _OBJECTS[hint])
        if hint is tuple:
            return nodes.array(None, tuple)
        if isinstance(hint, type):
            return self._class(hint)
        if getattr(hint, "_name", None) in ("LiteralString", "AnyStr"):
            return nodes.STRING
        return self._unchecked(f"{_shown(hint)} is nothing that JSON has values of")

    def _generic(self, hint: Any, origin: Any, names: Names) -> Made:
        arguments = get_args(hint)
        special = getattr(origin, "_name", None)
        if hasattr(hint, "__metadata__"):
            return self._annotated(hint, arguments[0], names)
        if origin is Union or origin is _UNION:
            return self._union(arguments, names)
        if origin is Literal or special == "Literal":
            return nodes.one_of(arguments)
        if special in _WRAPPERS:
            return self.node(arguments[0], names)
        if origin is tuple:
            return self._tuple(arguments, names)
        if origin in _ARRAYS:
            return nodes.array(self.node(arguments[0], names), _ARRAYS[origin])
        if origin in _OBJECTS:
            key = self.node(arguments[0], names)
            item = self.node(arguments[1], names) if len(arguments) > 1 else nodes.INTEGER  # Counter[str]
            return nodes.mapping(key, item, _OBJECTS[origin])
        if hasattr(origin, "__struct_fields__"):
            return self._library(models.by_msgspec, hint)
        if isinstance(origin, type):
            return self._class(origin)
        return self._unchecked(f"{_shown(hint)} is nothing that JSON has values of")

    def _annotated(self, hint: Any, inner: Any, names: Names) -> Made:
        library = models.library_of(hint.__metadata__)
        if library == "pydantic":
            return self._library(models.by_pydantic, hint)
        if library == "msgspec":
            return self._library(models.by_msgspec, hint)
        return self.node(inner, names)

    def _union(self, arguments: Tuple[Any, ...], names: Names) -> Made:
        members = [self.node(argument, names) for argument in arguments]
        checked = [member for member in members if member is not None]
        return nodes.union(checked) if len(checked) == len(members) else None

    def _tuple(self, arguments: Tuple[Any, ...], names: Names) -> Made:
        if len(arguments) == 2 and arguments[1] is ...:
            return nodes.array(self.node(arguments[0], names), tuple)
        if arguments == ((),):  # Tuple[()] before Python 3.11
            arguments = ()
        return nodes.tuple_of([self.node(argument, names) for argument in arguments])

    def _class(self, cls: type) -> Made:
        """Compile a class, once: its fields may be of the same class."""
        return self._once(cls, lambda: self._class_anew(cls))

    def _class_anew(self, cls: Any) -> Made:
        found = reader(cls)
        if found is not None:
            return nodes.read_by(cls, found)
        if issubclass(cls, Enum):
            return nodes.enumeration(cls)
        if hasattr(cls, "__pydantic_validator__") or (hasattr(cls, "parse_obj") and hasattr(cls, "__fields__")):
            return self._library(models.by_pydantic, cls)
        if hasattr(cls, "__struct_fields__"):
            return self._library(models.by_msgspec, cls)
        for attribute, base, build in (
            ("__dataclass_fields__", object, models.dataclass),
            ("__attrs_attrs__", object, models.attrs_class),
            ("__total__", dict, models.typed_dict),
            ("_fields", tuple, models.named_tuple),
        ):
            if hasattr(cls, attribute) and issubclass(cls, base):
                return build(cls, self.node)
        return self._unchecked(f"{cls.__qualname__} is nothing that JSON has values of; plain JSON arrives")

    def _library(self, build: Callable[[Any], Node], hint: Any) -> Made:
        try:
            return build(hint)
        except Exception as error:  # noqa: BLE001 - what a library refuses, each in its own way
            return self._unchecked(f"its own library refuses {_shown(hint)} ({type(error).__name__})")


def _shown(hint: Any) -> str:
    return str(getattr(hint, "__qualname__", hint))[:100]
