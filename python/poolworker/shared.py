"""What a fork would share or lose, found in /proc: threads, child processes, connected sockets."""

from __future__ import annotations

import sys
from gc import collect
from os import dup, getpid, listdir, readlink
from socket import AF_INET, AF_INET6, AF_UNIX, IPPROTO_TCP, SOCK_STREAM, TCP_INFO, socket
from time import monotonic, sleep
from typing import Dict, Final, List, Optional

_PATIENCE: Final = 2.0  # seconds for what is about to go by itself: a thread that ends, a connection that is closed
_LOOK_AGAIN: Final = 0.01
_MAX_NAMED: Final = 10
_TCP_ALONE: Final = (7, 10)  # TCP_CLOSE and TCP_LISTEN: no peer


def settle(own_fd: int, patience: float = _PATIENCE) -> List[str]:
    """Wait until a fork is safe, at most that many seconds; returns what stands against it, one phrase each.

    own_fd: the socket that may be there.
    """
    end = monotonic() + patience
    left = find(own_fd)
    if left:
        collect()  # a connection may wait for its object's end
    while left and monotonic() < end:
        sleep(_LOOK_AGAIN)
        left = find(own_fd)
    return left if len(left) <= _MAX_NAMED else [*left[:_MAX_NAMED], f"{len(left) - _MAX_NAMED} more"]


def find(own_fd: int) -> List[str]:
    """Name what stands against a fork now."""
    return _threads() + _children() + _connections(own_fd)


def _threads() -> List[str]:
    """All threads but the main one. A forked process has none of them, and keeps the locks that they held."""
    names: Dict[int, str] = {}
    threads = getattr(sys.modules.get("threading"), "_active", {})  # not enumerate(), which may have been replaced
    for thread in list(threads.values()):
        names[getattr(thread, "native_id", None) or 0] = thread.name
    found = []
    for tid in map(int, listdir("/proc/self/task")):
        if tid != getpid():
            found.append(
                f"thread {names[tid]}" if tid in names else f"thread {_command(tid)}, which isn't Python's own"
            )
    return found


def _children() -> List[str]:
    """Child processes that live: they would be no worker's children. Zombies hold nothing."""
    found = []
    for pid in _candidates():
        stat = _stat(pid)
        if stat is not None and stat[1] == str(getpid()) and stat[0] not in "ZX":
            found.append(f"child process {pid} ({_command(pid)})")
    return found


def _candidates() -> List[int]:
    """The children of this process, or all processes where the kernel has no list of children."""
    pids: List[int] = []
    try:
        for tid in listdir("/proc/self/task"):
            with open(f"/proc/self/task/{tid}/children", "rb") as file:
                pids += map(int, file.read().split())
    except OSError:
        return [int(name) for name in listdir("/proc") if name.isdigit()]
    return pids


def _connections(own_fd: int) -> List[str]:
    """Connected sockets: workers that share one read each other's answers."""
    found = []
    for fd in map(int, listdir("/proc/self/fd")):
        try:
            is_socket = readlink(f"/proc/self/fd/{fd}").startswith("socket:")
        except OSError:  # the descriptor of the listing itself
            continue
        peer = _peer(fd) if is_socket and fd != own_fd else None
        if peer is not None:
            found.append(f"connected socket to {peer}")
    return found


def _peer(fd: int) -> Optional[str]:
    """Where a socket is connected to; None: nowhere."""
    try:
        with socket(fileno=dup(fd)) as s:
            if s.family == getattr(socket, "AF_NETLINK", None):
                return None
            tcp = s.family in (AF_INET, AF_INET6) and s.type == SOCK_STREAM
            if tcp and s.getsockopt(IPPROTO_TCP, TCP_INFO, 1)[0] in _TCP_ALONE:
                return None
            try:
                address = s.getpeername()
            except OSError:
                return "a peer that hasn't answered yet" if tcp else None
            return _show(s.family, address)
    except OSError:  # closed meanwhile
        return None


def _show(family: int, address: object) -> str:
    if family == AF_UNIX:
        name = address.decode("utf-8", "replace") if isinstance(address, bytes) else str(address)
        return name.replace("\0", "@") or "an unnamed unix socket (a socketpair, or an event loop's own)"
    if isinstance(address, tuple) and len(address) >= 2:
        return f"[{address[0]}]:{address[1]}" if ":" in str(address[0]) else f"{address[0]}:{address[1]}"
    return str(address)


def _stat(pid: int) -> Optional[List[str]]:
    """The fields of /proc/PID/stat from the state on; None: no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2].decode("ascii").split()
    except OSError:
        return None


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read().decode("utf-8", "replace").strip()
    except OSError:
        return str(pid)
