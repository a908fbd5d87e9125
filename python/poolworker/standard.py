"""The standard library for poolworker itself, whatever the user's directories have of the same names.

A user's `queue.py` is what the user's `import queue` gives, as in any Python process, and neither poolworker nor what
it imports of the standard library (asyncio, say) gets to see it. So poolworker's own imports happen within First, and
what they have loaded under a name that the user's directories have too is out of `sys.modules` afterwards: who imported
it keeps it.

Nothing but what every Python process has loaded is imported here, not even __future__: the rest would come from the
user's PYTHONPATH.
"""

import os
import sys
from _frozen_importlib_external import PathFinder  # type: ignore[import-not-found, unused-ignore]
from _thread import RLock
from os import curdir, listdir, sep
from os.path import basename, dirname

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Dict, FrozenSet, List, Optional, Tuple

_AT_START = frozenset(sys.modules)
HOME = os.path.dirname(os.path.abspath(os.__file__))
"""The directory of the standard library."""
_ARCHIVE = f"python{sys.version_info[0]}{sys.version_info[1]}.zip"

_ELSEWHERE = ("_winapi", "msvcrt", "nt", "winreg", "winsound")

_turn = RLock()  # of threads, which may show tracebacks at the same time
os.register_at_fork(after_in_child=_turn._at_fork_reinit)  # type: ignore[attr-defined, unused-ignore]
_kept: "Dict[str, ModuleType]" = {}  # what poolworker imported, while the user's modules have the names
_known: "Tuple[Tuple[str, ...], FrozenSet[str]]" = ((), frozenset())  # sys.path, and the names that it hides


class First:
    """A context in which imports find the standard library first, and neither files nor modules of the user's.

    It changes what all threads see, the user's too, so it changes nothing where the user has no such names.
    """

    def __init__(self, *only: str) -> None:
        """Take only these names out of the user's hands: the ones that may be imported; none: all."""
        self._only = only
        self._theirs: Dict[str, ModuleType] = {}

    def __enter__(self) -> None:
        """Put the user's modules aside."""
        _turn.acquire()
        try:
            self._put_aside()
        except BaseException:
            _turn.release()
            raise

    def __exit__(self, *_: object) -> None:
        """Keep what was imported for the next time, and give the names back."""
        try:
            self._give_back()
        finally:
            _turn.release()

    def _put_aside(self) -> None:
        names = shadowed()
        self._names = names.intersection(self._only) if self._only else names
        if not self._names:
            return
        self._path = list(sys.path)
        self._before = frozenset(_loaded(self._names))
        for name in self._before:
            if not _is_standard(sys.modules[name]):
                self._theirs[name] = sys.modules.pop(name)
        for name, module in _kept.items():
            if name.partition(".")[0] in self._names:
                sys.modules[name] = module
        sys.path[:] = sorted(sys.path, key=lambda entry: not is_home(entry))
        sys.meta_path.insert(0, _Missing)

    def _give_back(self) -> None:
        if not self._names:
            return
        for name in _loaded(self._names):
            if name in self._theirs or name not in self._before:
                _kept[name] = sys.modules.pop(name)
        sys.modules.update(self._theirs)
        sys.path[:] = self._path
        sys.meta_path.remove(_Missing)


class _Missing:
    """Finds nothing of the user's under names that the standard library has elsewhere, as on Windows."""

    @staticmethod
    def find_spec(name: str, path: "object" = None, _target: "object" = None) -> None:
        """Refuse a name of the standard library that isn't here. Raises ModuleNotFoundError."""
        if path is not None or name in sys.builtin_module_names or name not in _standard_names():
            return
        if PathFinder.find_spec(name, [entry for entry in sys.path if is_home(entry)]) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def give_way() -> None:
    """Let the user's imports find the user's modules, also under names of the standard library that are loaded."""
    for name in _loaded(shadowed()):
        if _is_standard(sys.modules[name]):
            _kept[name] = sys.modules.pop(name)


def shadowed() -> "FrozenSet[str]":
    """Names of the standard library that the user's directories have too. What every process has loaded isn't found."""
    global _known
    path = tuple(sys.path)
    if _known[0] != path:
        found = {name for name in _standard_names().intersection(sys.modules) if not _is_standard(sys.modules[name])}
        for entry in path:
            if is_home(entry):
                break
            found.update(_in_directory(entry))
        _known = path, frozenset(found - _AT_START)
    return _known[1]


def _in_directory(entry: str) -> "List[str]":
    stems = {name.partition(".")[0] for name in _listed(entry)}
    return [name for name in stems & _standard_names() if _is_module(name, entry)]


def _is_module(name: str, entry: str) -> bool:
    """Whether that name can be imported from a directory; a folder without __init__.py comes after all of sys.path."""
    spec = PathFinder.find_spec(name, [entry])
    return spec is not None and spec.origin is not None


def _listed(entry: str) -> "List[str]":
    try:
        return listdir(entry or curdir)
    except OSError:
        return []


def _standard_names() -> "FrozenSet[str]":
    names: Optional[FrozenSet[str]] = getattr(sys, "stdlib_module_names", None)
    if names is None:  # before Python 3.10
        places = [HOME, *filter(is_home, sys.path)]
        stems = {name.partition(".")[0] for place in places for name in _listed(place)}
        names = frozenset(stems.union(sys.builtin_module_names, _ELSEWHERE))
    return names


def is_home(entry: str) -> bool:
    """Whether an entry of sys.path is the standard library's."""
    if "-packages" in entry:
        return False
    return (entry + sep).startswith(HOME + sep) or basename(entry) in ("lib-dynload", _ARCHIVE)


def _is_standard(module: "ModuleType") -> bool:
    file = getattr(module, "__file__", None)
    return file is None or is_home(dirname(file))


def _loaded(names: "FrozenSet[str]") -> "List[str]":
    """The modules of those names, and what is below them."""
    return [name for name in list(sys.modules) if name.partition(".")[0] in names] if names else []
