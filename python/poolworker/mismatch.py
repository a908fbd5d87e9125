"""What is wrong with a value: where, and what was expected. Never the value itself, which may be long, or a secret."""

from __future__ import annotations

from typing import Any, Final, List, Union

MAX_PATH: Final = 200
"""Characters of a path that a message shows."""


class Mismatch(Exception):
    """A value that an annotation doesn't allow."""

    def __init__(self, problem: str, expected: str = "") -> None:
        """Problem ends a sentence that begins with the path; expected is the part of it that a union joins."""
        super().__init__(problem)
        self.problem = problem
        self.expected = expected
        self._steps: List[str] = []  # the innermost first

    @property
    def depth(self) -> int:
        """How far inside the value it is."""
        return len(self._steps)

    def within(self, step: Union[int, str]) -> Mismatch:
        """Say that the value is an item, or a field, of one around it."""
        self._steps.append(f"[{step}]" if isinstance(step, int) else "." + short(step))
        return self

    def path(self, argument: str) -> str:
        """Return the path from the argument to the value: items[3].price."""
        whole = short(argument) + "".join(reversed(self._steps))
        return whole if len(whole) <= MAX_PATH else whole[: MAX_PATH - 1] + "…"


def wrong(expected: str, value: Any) -> Mismatch:
    """Build what a value of another type than the expected is."""
    return Mismatch(f"expected {expected}, got {_described(value)}", expected)


def malformed(expected: str, value: Any) -> Mismatch:
    """Build what a value is that has the right type in JSON, and isn't one of those that are meant."""
    return Mismatch(f"expected {expected}, got another {_NAMES[type(value)].split(' ', 1)[1]}", expected)


def short(name: str) -> str:
    """Cut a name that a caller gave."""
    return name if len(name) <= 100 else name[:99] + "…"


_NAMES: Final = {
    type(None): "a null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
}


def _described(value: Any) -> str:
    if value is None:
        return "null"
    if type(value) is float and not value.is_integer():
        return "a number with a fraction"
    return _NAMES.get(type(value), "something else")
