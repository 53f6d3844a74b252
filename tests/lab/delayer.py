# SPDX-License-Identifier: GPL-2.0-or-later
"""A cable that is late: forwards frames between two interfaces of its network namespace, one way after a while.

A stand-alone program for the standard library only, started as `python -I delayer.py FEED PORT MILLISECONDS`: what
comes from FEED leaves at PORT so much later, what comes from PORT leaves at FEED at once. It stands in for netem, which
not every kernel has. SIGTERM and SIGKILL end it; what is in flight is lost then.
"""

import os
import select
import socket
import sys
import time
from collections import deque

ETH_P_ALL = 0x0003
SOL_PACKET = 263
PACKET_VNET_HDR = 15
"""Frames come and go with the state of their segmentation and checksum, which are the sender's card's work (Linux:
packet(7) does not tell, include/uapi/linux/if_packet.h does). Without it most TCP frames would leave with no checksum.
"""
PACKET_IGNORE_OUTGOING = 23
FRAME_BYTES = 1 << 17
BUFFER_BYTES = 1 << 23


def open_interface(name: str) -> socket.socket:
    """A socket that receives every frame that comes in at an interface, and sends there."""
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    link.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    link.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    link.bind((name, ETH_P_ALL))
    return link


def send(link: socket.socket, frame: bytes) -> None:
    """Send a frame; one that cannot be sent is lost, as on any cable."""
    try:
        link.send(frame)
    except OSError:
        return


def forward(feed: socket.socket, port: socket.socket, seconds: float) -> None:
    """Forward until killed."""
    late: deque[tuple[float, bytes]] = deque()
    while True:
        wait = max(0.0, late[0][0] - time.monotonic()) if late else None
        ready, _, _ = select.select([feed, port], [], [], wait)
        for link in ready:
            frame = link.recv(FRAME_BYTES)
            if link is port:
                send(feed, frame)
            else:
                late.append((time.monotonic() + seconds, frame))
        while late and late[0][0] <= time.monotonic():
            send(port, late.popleft()[1])


def main() -> None:
    """Go into the background once frames are received, with the background's number on stdout."""
    feed, port = open_interface(sys.argv[1]), open_interface(sys.argv[2])
    if pid := os.fork():
        print(pid)
        return
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    forward(feed, port, float(sys.argv[3]) / 1000)


if __name__ == "__main__":
    main()
