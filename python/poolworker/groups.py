"""What an exception holds beside its own text: other exceptions (an ExceptionGroup's members), and notes."""

from __future__ import annotations

from typing import Iterator, List, Tuple


def members(error: BaseException) -> Tuple[BaseException, ...]:
    """Return what a group holds, () for any other exception.

    A group is known by what it can do: before Python 3.11 it is the package exceptiongroup's, or a library's own.
    """
    if not hasattr(type(error), "split"):
        return ()
    try:
        held = tuple(error.exceptions)  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - a user's class, in which that is something else
        return ()
    return held if all(isinstance(member, BaseException) for member in held) else ()


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions in a group and in the groups in it; of no group, the exception itself."""
    left: List[BaseException] = [error]
    while left:
        link = left.pop()
        held = members(link)
        left.extend(reversed(held))
        if not held:
            yield link


def consists_of(error: BaseException, *kinds: type) -> bool:
    """Report whether an exception is of these kinds, or a group of such alone, in groups or not.

    What it was raised from doesn't count: who wraps an error in another kind has decided what it is.
    """
    return isinstance(error, kinds) or (bool(members(error)) and all(isinstance(leaf, kinds) for leaf in leaves(error)))


def notes(error: BaseException) -> List[str]:
    """Return the texts that add_note has added."""
    added = getattr(error, "__notes__", None)
    return [note for note in added if isinstance(note, str)] if isinstance(added, (list, tuple)) else []
