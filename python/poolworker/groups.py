"""What an exception holds beside its own text: other exceptions (an ExceptionGroup's members), and notes."""

from __future__ import annotations

from typing import Final, Iterator, List, Tuple

_MAX_LEAVES: Final = 1000  # that are looked at to judge a group; beyond, it is none of a kind


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
    """Yield the exceptions in a group and in the groups in it, at most _MAX_LEAVES; of no group, the exception."""
    left: List[BaseException] = [error]
    for _ in range(_MAX_LEAVES):
        if not left:
            return
        link = left.pop()
        held = members(link)
        left.extend(reversed(held))
        if not held:
            yield link


def consists_of(error: BaseException, *kinds: type) -> bool:
    """Report whether an exception is of these kinds, or a group of such alone, in groups or not.

    What it was raised from doesn't count: who wraps an error in another kind has decided what it is.
    """
    if isinstance(error, kinds):
        return True
    if not members(error):
        return False
    found = list(leaves(error))
    return 0 < len(found) < _MAX_LEAVES and all(isinstance(leaf, kinds) for leaf in found)


def notes(error: BaseException) -> List[str]:
    """Return the texts that add_note has added."""
    added = getattr(error, "__notes__", None)
    return [note for note in added if isinstance(note, str)] if isinstance(added, (list, tuple)) else []
