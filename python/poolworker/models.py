"""Classes whose values are JSON objects: dataclasses, TypedDicts, NamedTuples, attrs, and pydantic's and msgspec's own.

The latter two's are read by the library that they belong to, which the module has imported.
"""

from __future__ import annotations

import sys
from re import DOTALL, findall, sub
from typing import Any, Callable, Dict, FrozenSet, Iterable, List, Mapping, Optional, Sequence

from poolworker import hints
from poolworker.mismatch import Mismatch
from poolworker.nodes import JSON, Made, Node, apply, make, placed

Make = Callable[[Any, hints.Names], Made]
"""Compiles an annotation."""


def fields_of(cls: type, compile_hint: Make) -> Dict[str, Made]:
    """Compile the annotations of a class's attributes."""
    return {name: compile_hint(*hint) for name, hint in hints.of_class(cls).items()}


def dataclass(cls: Any, compile_hint: Make) -> Node:
    """Make a node for a dataclass."""
    missing = sys.modules["dataclasses"].MISSING  # type: ignore[attr-defined, unused-ignore]
    compiled = fields_of(cls, compile_hint)
    fields: Dict[str, Made] = {}
    required = set()
    for name, field in cls.__dataclass_fields__.items():
        if not field.init or field._field_type.name == "_FIELD_CLASSVAR":
            continue
        fields[name] = compiled.get(name)
        if field.default is missing and field.default_factory is missing:
            required.add(name)
    return _object(cls.__name__, fields, frozenset(required), _constructor(cls))


def attrs_class(cls: Any, compile_hint: Make) -> Node:
    """Make a node for a class of attrs; its fields have the names of the arguments that make it."""
    nothing = sys.modules["attr"].NOTHING  # type: ignore[attr-defined, unused-ignore]
    compiled = fields_of(cls, compile_hint)
    given = [field for field in cls.__attrs_attrs__ if field.init]
    names = {field.name: getattr(field, "alias", None) or field.name.lstrip("_") for field in given}
    fields = {names[field.name]: None if field.converter else compiled.get(field.name) for field in given}
    required = frozenset(names[field.name] for field in given if field.default is nothing)
    return _object(cls.__name__, fields, required, _constructor(cls))


def typed_dict(cls: Any, compile_hint: Make) -> Node:
    """Make a node for a TypedDict, which may have other keys besides."""
    required = set(cls.__required_keys__)
    for name, (hint, names) in hints.of_class(cls).items():  # before 3.11 `NotRequired` in text isn't in the sets
        wrapper = _qualifier(hint, names)
        if wrapper == "NotRequired":
            required.discard(name)
        elif wrapper == "Required":
            required.add(name)
    return _object(cls.__name__, fields_of(cls, compile_hint), frozenset(required), lambda made: made, closed=False)


def _qualifier(hint: Any, names: hints.Names) -> str:
    try:
        return str(getattr(getattr(hints.evaluate(hint, names), "__origin__", None), "_name", ""))
    except hints.UnresolvedError:
        return ""


def named_tuple(cls: Any, compile_hint: Make) -> Node:
    """Make a node for a NamedTuple, which may come as an array or as an object."""
    compiled = fields_of(cls, compile_hint)
    fields = {name: compiled.get(name) for name in cls._fields}
    required = frozenset(fields) - frozenset(cls._field_defaults)
    by_name = _object(cls.__name__, fields, required, _constructor(cls))

    def convert(value: Any) -> Any:
        if type(value) is dict:
            return by_name.convert(value)
        if not len(required) <= len(value) <= len(fields):
            raise Mismatch(f"expected an array of {len(fields)}, got one of {len(value)}", "an array")
        return _constructor(cls)(dict(zip(fields, placed(value, list(fields.values())))))

    return make((), (list, dict), "an array or an object", convert)


def _object(
    name: str,
    fields: Mapping[str, Made],
    required: FrozenSet[str],
    construct: Callable[[Dict[str, Any]], Any],
    closed: bool = True,
) -> Node:
    """Make a node for objects with these fields; closed: and no others."""

    def convert(value: Dict[str, Any]) -> Any:
        made = {}
        for key, each in value.items():
            if closed and key not in fields:
                raise Mismatch(f"{name} has no such field").within(key)
            try:
                made[key] = apply(fields.get(key), each)
            except Mismatch as mismatch:
                raise mismatch.within(key)  # noqa: B904 - it is the same one
        for key in fields:
            if key in required and key not in made:
                raise Mismatch(f"missing, and {name} needs it").within(key)
        return construct(made)

    return make((), (dict,), "an object", convert)


def _constructor(cls: Any) -> Callable[[Dict[str, Any]], Any]:
    """Return what makes an instance. A ValueError or TypeError of its own code means that the values don't fit.

    Its text may hold a value, and isn't told; a CallerError's is.
    """

    def construct(made: Dict[str, Any]) -> Any:
        try:
            return cls(**made)
        except (ValueError, TypeError) as error:
            raise Mismatch(f"{cls.__name__} refuses these values ({type(error).__name__})") from error

    return construct


def by_pydantic(hint: Any) -> Node:
    """Make a node for a pydantic model, or for an annotation with pydantic's own metadata."""
    if hasattr(hint, "parse_obj") and not hasattr(hint, "__pydantic_validator__"):  # version 1, or pydantic.v1
        return make((), JSON, hint.__name__, _told_by_pydantic(hint.parse_obj))
    adapter = sys.modules["pydantic"].TypeAdapter(hint)  # type: ignore[attr-defined, unused-ignore]
    name = getattr(hint, "__name__", "a value of the right kind")
    return make((), JSON, name, _told_by_pydantic(adapter.validate_python))


def _told_by_pydantic(validate: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        try:
            return validate(value)
        except ValueError as error:
            told: Optional[Callable[[], Sequence[Mapping[str, Any]]]] = getattr(error, "errors", None)
            if told is None:
                raise Mismatch("it isn't valid") from error
            first = told()[0]
            raise _at(Mismatch(_lower(str(first["msg"])[:200])), first["loc"]) from None

    return convert


def by_msgspec(hint: Any) -> Node:
    """Make a node for a msgspec Struct, or for an annotation with msgspec's own metadata."""
    msgspec = sys.modules["msgspec"]
    msgspec.json.Decoder(hint)  # type: ignore[attr-defined, unused-ignore]  # raises TypeError for what msgspec can't do

    def convert(value: Any) -> Any:
        try:
            return msgspec.convert(value, hint, str_keys=True)  # type: ignore[attr-defined, unused-ignore]
        except msgspec.ValidationError as error:  # type: ignore[attr-defined, unused-ignore]
            text, _, path = str(error).partition(" - at `")
            steps = [int(n) if n else name for n, name in findall(r"\[(\d+)\]|\.([^.\[`]+)", path[:1000])]
            text = sub(r" '.*'", "", text.replace("`", ""), flags=DOTALL)  # a value
            raise _at(Mismatch(_lower(text[:200])), steps) from None

    return make((), JSON, getattr(hint, "__name__", "a value of the right kind"), convert)


def _at(mismatch: Mismatch, steps: Iterable[Any]) -> Mismatch:
    for step in reversed(list(steps)[:20]):
        mismatch.within(step if isinstance(step, int) else str(step))
    return mismatch


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def library_of(metadata: Iterable[Any]) -> str:
    """Return whose metadata an Annotated has: "pydantic", "msgspec", or "" for anybody else's."""
    modules: List[str] = [type(each).__module__.partition(".")[0] for each in metadata]
    if "pydantic" in sys.modules and any(module in ("pydantic", "annotated_types") for module in modules):
        return "pydantic"
    return "msgspec" if "msgspec" in modules else ""
