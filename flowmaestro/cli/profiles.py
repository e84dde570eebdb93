"""`login`, `logout` and `profiles`: keys that are stored for later commands."""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import List

from flowmaestro import AuthenticationError, AuthorizationError, FlowMaestroClient
from flowmaestro.cli import AUTHENTICATION, NOT_FOUND, USAGE, CommandFailed, output
from flowmaestro.cli.console import Console, Text
from flowmaestro.cli.credentials import (
    DEFAULT_PROFILE,
    drop_profile,
    keep_profile,
    profiles_file,
    read_profiles,
    url_of,
)
from flowmaestro.printable import printable
from flowmaestro_core.arguments import check_token
from flowmaestro_core.defaults import DEFAULT_BASE_URL
from flowmaestro_core.http.secrets import showable_url
from flowmaestro_core.http.urls import api_root

MOST_KEYS = 3
"""How often a terminal is asked for a key, as with `login` of a system."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def login_command(options: argparse.Namespace) -> None:
    """Ask the user for a key, check it at the server, and save it as a profile.

    A key that may not read workflows is saved, too. On a terminal, a key that the server refuses is
    asked for again. Any other error of the check is raised, and nothing is saved. Raises
    `CommandFailed` for a wrong name or URL, and without a key.
    """
    name = _name_of(options)
    if not _NAME.fullmatch(name):
        hint = "use up to 64 letters, digits, dots, dashes and underscores"
        raise CommandFailed(f"{name!r} is not a name for a profile", USAGE, hint=hint)
    # What is wrong is told before the key is typed: the URL, the folder or the file of profiles.
    _check_folder()
    url = _server_of(name, options)
    api_root(url)
    key = _working_key(url)
    hints = Console(sys.stderr)
    place, left = keep_profile(name, url, key, in_file=options.file)
    hints.line(f"profile {name} is for {showable_url(url)}; its key is in {place}")
    if left:
        hints.line(f"the former key {left}")
    if os.environ.get("FLOWMAESTRO_API_KEY"):
        text = "FLOWMAESTRO_API_KEY is set, so commands use that key"
        hints.line(f"{text}; unset it, or give --profile {name}")


def logout_command(options: argparse.Namespace) -> None:
    """Delete a profile and its key from this machine. The server still accepts the key.

    Raises `CommandFailed` if there is no such profile, and as `drop_profile` does.
    """
    name = _name_of(options)
    if not drop_profile(name):
        hint = "`flowmaestro profiles` shows all"
        raise CommandFailed(f"there is no profile {name!r}", NOT_FOUND, hint=hint)
    Console(sys.stderr).line(f"profile {name} is deleted here; the server still accepts its key")


def profiles_command(options: argparse.Namespace) -> None:
    """Print the profiles, without their keys."""
    rows = [
        {
            "name": name,
            "base_url": profile["base_url"],
            "key_in": str(profiles_file()) if "api_key" in profile else "keyring",
        }
        for name, profile in sorted(read_profiles().items())
    ]
    if options.output is not None:
        output.print_json(rows)
    elif rows:
        cells: List[List[Text]] = [[row["name"], row["base_url"], row["key_in"]] for row in rows]
        Console(sys.stdout).table(("name", "server", "key in"), cells)
    else:
        Console(sys.stderr).line("none; `flowmaestro login` makes one")


def _name_of(options: argparse.Namespace) -> str:
    return options.profile or os.environ.get("FLOWMAESTRO_PROFILE") or DEFAULT_PROFILE


def _server_of(name: str, options: argparse.Namespace) -> str:
    """Return the base URL of the server that the key is for.

    It is that of `--base-url`, else of the profile that `--profile` names, else of
    FLOWMAESTRO_BASE_URL, else of the profile `name`, else the default: the order of all commands.
    """
    given, source = url_of(options)
    profile = read_profiles().get(name)
    comes_first = source != "--base-url" and (options.profile is not None or given is None)
    if profile is not None and comes_first:
        return profile["base_url"]
    return given or DEFAULT_BASE_URL


def _working_key(url: str) -> str:
    """Ask the user for a key until the server accepts one, at most `MOST_KEYS` times.

    A key from a pipe is the only one; the server is named before the key is sent. Raises the error
    of the last key.
    """
    hints, is_terminal = Console(sys.stderr), sys.stdin.isatty()
    if not is_terminal:
        hints.line(f"the key goes to {showable_url(url)}")
    for left in range(MOST_KEYS if is_terminal else 1, 0, -1):
        try:
            key = _ask_for_key(showable_url(url))
            _check_key(key, url)
        except (AuthenticationError, ValueError) as error:
            if left == 1:
                raise
            text = error.message if isinstance(error, AuthenticationError) else str(error)
            hints.line(f"{text.rstrip('.')}; try again, or leave with Ctrl-D")
        else:
            return key
    raise AssertionError  # The last key is returned or its error raised.


def _check_key(key: str, url: str) -> None:
    """Raise the server's error unless it accepts the key. It need not permit anything."""
    with FlowMaestroClient(key, base_url=url) as client:
        try:
            client.workflows.list(per_page=1)
        except AuthorizationError:  # The key is good, but not for workflows.
            text = "the key may not read workflows; `flowmaestro doctor` shows its scopes"
            Console(sys.stderr).line(text)


def _check_folder() -> None:
    """Raise `CommandFailed` if `profiles_file` raises `RuntimeError`: no folder can be used."""
    try:
        profiles_file()
    except RuntimeError as error:
        hint = "set HOME or XDG_CONFIG_HOME to an absolute path"
        raise CommandFailed("there is no folder to keep the profile in", hint=hint) from error


def _ask_for_key(server: str) -> str:
    """Return the key that the user types; it is not shown. From a pipe, return the first line.

    White space around it is removed. Raises `CommandFailed` if nothing is left, and `ValueError`
    for a key that no header can hold.
    """
    if sys.stdin.isatty():
        from getpass import getpass

        try:
            key = getpass(f"API key for {printable(server)}: ", stream=sys.stderr)
        except EOFError:  # Ctrl-D, which ends no line.
            key = ""
            sys.stderr.write("\n")
    else:
        key = sys.stdin.readline()
    key = key.strip()
    if not key:
        raise CommandFailed("no key was given", AUTHENTICATION)
    check_token("the key", key)
    return key
