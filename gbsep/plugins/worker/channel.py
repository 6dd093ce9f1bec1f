"""Messages between gbsep and the process of one plug-in.

A message is one JSON object, preceded by its length in bytes as an unsigned 32-bit little-endian number. They travel
on a socket of their own, because plug-ins print on standard output. Audio does not: it lies in a block of shared
memory that both sides map, and the messages only say how many frames of it count.
"""

from __future__ import annotations

import json
import mmap
import socket
import struct
import time
from typing import Any

import numpy as np

LENGTH = struct.Struct("<I")
LONGEST_BYTES = 2**28
"""No honest message is longer; a larger length means that something else wrote on the channel."""

SLOT_FRAMES = 2**16
"""Frames that travel at once."""

SLOTS = 2
"""One slot is filled and emptied by gbsep while the plug-in works on the other."""


def shared_bytes(channels: int) -> int:
    """Size of the shared memory for signals of `channels` channels."""
    return SLOTS * channels * SLOT_FRAMES * 4


def slot(memory: mmap.mmap, number: int, channels: int, frames: int) -> np.ndarray:
    """Slot `number` of the shared memory as an array, shape (channels, frames)."""
    start = number * channels * SLOT_FRAMES * 4
    return np.frombuffer(memory, np.float32, channels * frames, start).reshape(channels, frames)


class ChannelBroken(Exception):
    """What came over the channel is no message."""


def send(channel: socket.socket, message: dict[str, Any]) -> None:
    """Write one message; OSError when the other side is gone."""
    text = json.dumps(message).encode()
    channel.sendall(LENGTH.pack(len(text)) + text)


def receive(channel: socket.socket, deadline: float | None = None) -> dict[str, Any]:
    """Read one message.

    `deadline` is a time on the monotonic clock. Raises TimeoutError when it has passed, EOFError when the other side
    is gone, ChannelBroken when the bytes are no message.
    """
    (length,) = LENGTH.unpack(_read(channel, LENGTH.size, deadline))
    if length > LONGEST_BYTES:
        raise ChannelBroken(f"a message of {length} bytes")
    try:
        message = json.loads(_read(channel, length, deadline))
    except ValueError as error:
        raise ChannelBroken(str(error)) from error
    if not isinstance(message, dict):
        raise ChannelBroken(f"a message that is a {type(message).__name__}")
    return message


def _read(channel: socket.socket, size: int, deadline: float | None) -> bytes:
    data = bytearray()
    while len(data) < size:
        if deadline is not None:
            # A timeout of zero would make the socket non-blocking.
            channel.settimeout(max(deadline - time.monotonic(), 1e-6))
        try:
            piece = channel.recv(size - len(data))
        except ConnectionResetError as error:
            raise EOFError from error
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
