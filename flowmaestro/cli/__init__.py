"""The command line: `serve`, an embedded FlowMaestro, and `demo`, a tour of this SDK.

Each command is imported when it is asked for; nothing here loads an HTTP stack before that.
"""

from __future__ import annotations


class CommandFailed(Exception):
    """A command could not do its job; the text says why, in one line for the user."""
