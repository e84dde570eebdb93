"""`login`, `logout` and `profiles`: keys that are stored for later commands."""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import List

from flowmaestro import AuthorizationError, FlowMaestroClient
from flowmaestro.cli import AUTHENTICATION, NOT_FOUND, USAGE, CommandFailed, output
from flowmaestro.cli.console import Text, console, printable
from flowmaestro.cli.credentials import (
    DEFAULT_PROFILE,
    drop_profile,
    keep_profile,
    profiles_file,
    read_profiles,
    url_of,
)
from flowmaestro_core.arguments import check_token
from flowmaestro_core.defaults import DEFAULT_BASE_URL
from flowmaestro_core.http.secrets import showable_url
from flowmaestro_core.http.urls import api_root

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def login_command(options: argparse.Namespace) -> None:
    """Ask the user for a key, check it at the server, and save it as a profile.

    A key that may not read workflows is saved, too. Any other error of the check is raised, and
    nothing is saved. Raises `CommandFailed` for a wrong name or URL, and without a key.
    """
    name = _name_of(options)
    if not _NAME.fullmatch(name):
        hint = "use up to 64 letters, digits, dots, dashes and underscores"
        raise CommandFailed(f"{name!r} is not a name for a profile", USAGE, hint=hint)
    url = url_of(options)[0] or DEFAULT_BASE_URL
    # What is wrong is told before the key is typed: the URL, the folder or the file of profiles.
    api_root(url)
    _check_folder()
    read_profiles()
    hints = console(sys.stderr)
    key = _ask_for_key(showable_url(url))
    with FlowMaestroClient(key, base_url=url) as client:
        try:
            client.workflows.list(per_page=1)
        except AuthorizationError:  # The key is good, but not for workflows.
            hints.line("the key may not read workflows; `flowmaestro doctor` shows its scopes")
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
    console(sys.stderr).line(f"profile {name} is deleted here; the server still accepts its key")


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
        console(sys.stdout).table(("name", "server", "key in"), cells)
    else:
        console(sys.stderr).line("none; `flowmaestro login` makes one")


def _name_of(options: argparse.Namespace) -> str:
    return options.profile or os.environ.get("FLOWMAESTRO_PROFILE") or DEFAULT_PROFILE


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
