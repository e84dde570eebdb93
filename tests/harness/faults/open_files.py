"""How many files this process has open, and how many it may."""

from __future__ import annotations

import os
import resource

SPARE = 200
"""Descriptors for all that is not a stream."""


def open_files() -> int:
    """The number of open descriptors."""
    return len(os.listdir("/dev/fd"))


def room_for(streams: int) -> int:
    """`streams`, or as many as the system allows; the soft limit is raised as far as it goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = streams + SPARE
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return streams
    print(f"ONLY {soft - SPARE} STREAMS INSTEAD OF {streams}: {soft} open files are the limit here")
    return soft - SPARE
