# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a process's connection to another server begins, as the other side sees it: by that a primary knows a standby.

The kernel is asked (/proc), not the server: it does not know the local port of its WAL receiver.
"""

import os
import socket
import struct
from typing import Final

NONE: Final = "none"
"""There is no connection."""
_ESTABLISHED = "01"


def endpoint_of(pid: int) -> str:
    """The local address and port of the process's TCP connection, `address:port`. If it has none but a connection
    within this machine, the mark for that; NONE if there is neither, or if the process is gone.
    """
    try:
        inodes = _sockets(pid)
        for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
            for words in _table(pid, table):
                if words[9] in inodes and words[3] == _ESTABLISHED:
                    return _address(words[1], family)
        if any(words[6] in inodes for words in _table(pid, "unix")):
            return local_mark()
    except OSError:
        return NONE  # it has ended meanwhile
    return NONE


def endpoint(address: str | None, port: int | None) -> str:
    """The same of a row of pg_stat_replication or pg_stat_activity; "" if it does not say it."""
    if port is None:
        return ""
    return _plain(address, port) if address else local_mark()


def local_mark() -> str:
    """For a connection within this machine: whoever has the same mark runs on the same kernel."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return f"local:{file.read().strip()}"


def _sockets(pid: int) -> set[str]:
    """The inodes of the process's sockets."""
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            kind, _, inode = os.readlink(f"/proc/{pid}/fd/{name}").partition(":[")
        except FileNotFoundError:
            continue  # closed meanwhile
        if kind == "socket":
            found.add(inode.rstrip("]"))
    return found


def _table(pid: int, name: str) -> list[list[str]]:
    """A table of sockets in the process's network, without its head."""
    try:
        with open(f"/proc/{pid}/net/{name}", encoding="ascii", errors="replace") as file:
            return [line.split() for line in file][1:]
    except FileNotFoundError:
        return []  # a kernel without IPv6


def _address(text: str, family: socket.AddressFamily) -> str:
    """An address and port as the kernel writes them: words of 32 bits in the order of this machine, in hexadecimal."""
    words, _, port = text.partition(":")
    numbers = [int(words[start : start + 8], 16) for start in range(0, len(words), 8)]
    return _plain(socket.inet_ntop(family, struct.pack(f"={len(numbers)}I", *numbers)), int(port, 16))


def _plain(address: str, port: int) -> str:
    """IPv4 within IPv6 is IPv4."""
    inner = address.lower().removeprefix("::ffff:")
    return f"{inner if '.' in inner else address}:{port}"
