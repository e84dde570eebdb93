"""The key and the server of a command, and the profiles that store both.

A profile is a pair of a key and a base URL. The file `profiles.json` holds the base URLs, and the
keys that are not in a keyring. The file is in this user's folder for configuration; on POSIX, its
mode is 0600. The key of a profile is sent to the API root of its base URL only. Only the command
line reads profiles.
"""

from __future__ import annotations

import argparse
import json
import os
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, cast

from flowmaestro.cli import AUTHENTICATION, FAILED, USAGE, CommandFailed
from flowmaestro.cli.state import change_private, user_folder
from flowmaestro_core.defaults import DEFAULT_BASE_URL
from flowmaestro_core.http.urls import api_root

DEFAULT_PROFILE = "default"
KEYRING_TIMEOUT = 5.0
"""Seconds that a keyring may take to read or delete a key.

It may ask the user for a password that nobody can type.
"""
_SERVICE = "flowmaestro"
_FILE = "profiles.json"
_INSTEAD = "unlock it, set FLOWMAESTRO_API_KEY, or keep the key with `flowmaestro login --file`"


class Credentials:
    """The key and the server of a command, and where each came from.

    Attributes:
        api_key: the key; `None` if there is none.
        base_url: the base URL of the server.
        key_source: the option, variable or profile that the key came from; "" without a key.
        url_source: the option, variable or profile that the base URL came from; "default" if none
            did.

    """

    def __init__(
        self, api_key: Optional[str], base_url: str, key_source: str, url_source: str
    ) -> None:
        self.api_key = api_key
        self.base_url = base_url
        self.key_source = key_source
        self.url_source = url_source

    def __repr__(self) -> str:
        key = "no key" if self.api_key is None else f"a key from {self.key_source}"
        return f"<Credentials {key} for {self.base_url}>"


def url_of(options: argparse.Namespace) -> Tuple[Optional[str], str]:
    """Return the base URL of `--base-url` or the environment, and the name of its source.

    If neither has one, return `None` and `"default"`. Raises `CommandFailed` for a malformed URL.
    """
    name = "--base-url"
    url: Optional[str] = options.base_url
    if url is None:
        name = "FLOWMAESTRO_BASE_URL"
        url = os.environ.get(name) or None
    if url is None:
        return None, "default"
    if "://" not in url and "@" not in url:  # A URL with a password is not repeated.
        text = f"{name} {url!r} must be an http:// or https:// URL; write http://{url}"
        raise CommandFailed(text, USAGE)
    try:
        api_root(url)
    except ValueError as error:
        raise CommandFailed(str(error).replace("base_url", name), USAGE) from None
    return url, name


def credentials_of(options: argparse.Namespace) -> Credentials:
    """Return the key and the server of a command.

    The key is that of `--api-key`, else of `--profile`, else of FLOWMAESTRO_API_KEY, else of the
    profile that FLOWMAESTRO_PROFILE names, else of the profile `default`, else `None`. The server
    is that of `--base-url`, else of `--profile`, else of FLOWMAESTRO_BASE_URL, else of the profile
    of the key, else the default.

    Raises `CommandFailed` for a malformed URL, for a named profile that does not exist, and if the
    profiles cannot be read. Raises it, too, if the key of a profile is needed, but is missing, or
    is for another API root than that of the server.
    """
    chosen: Optional[str] = options.profile
    if chosen is not None:
        profile = existing_profile(chosen, "--profile")
        given, source = None, f"profile {chosen}"
        if options.base_url is not None:
            given, source = url_of(options)
        if options.api_key is not None:
            url = given or profile["base_url"]
            return Credentials(options.api_key, url, "--api-key", source)
        return _of_profile(chosen, profile, given, source)
    given, source = url_of(options)
    url = given or DEFAULT_BASE_URL
    if options.api_key is not None:
        return Credentials(options.api_key, url, "--api-key", source)
    # A variable that was read from a file often ends with a line end; `login` strips it, too.
    key = os.environ.get("FLOWMAESTRO_API_KEY", "").strip()
    if key:
        return Credentials(key, url, "FLOWMAESTRO_API_KEY", source)
    name = os.environ.get("FLOWMAESTRO_PROFILE")
    if name:
        return _of_profile(name, existing_profile(name, "FLOWMAESTRO_PROFILE"), given, source)
    default = read_profiles().get(DEFAULT_PROFILE)
    if default is not None:
        return _of_profile(DEFAULT_PROFILE, default, given, source)
    return Credentials(None, url, "", source)


def place_without_key() -> str:
    """Return what `session.place_of` returns for a command without options.

    No key is read: a keyring could ask the user for a password.
    """
    name = os.environ.get("FLOWMAESTRO_PROFILE") or DEFAULT_PROFILE
    if os.environ.get("FLOWMAESTRO_API_KEY", "").strip():
        name = ""
    profile = read_profiles().get(name)
    url = os.environ.get("FLOWMAESTRO_BASE_URL") or DEFAULT_BASE_URL
    if profile is not None:
        url = profile["base_url"]
    return f"{api_root(url)} {'' if profile is None else name}"


def _of_profile(
    name: str, profile: Mapping[str, str], url: Optional[str], url_source: str
) -> Credentials:
    """Return the key and the server of a profile.

    `url` is the base URL of `--base-url` or the environment, if any, and `url_source` says which.
    Raises `CommandFailed` if `url` leads to another API root than the profile's, or if the key is
    neither in the profile nor in a keyring that can be read.
    """
    root = api_root(profile["base_url"])
    if url is not None and api_root(url) != root:
        text = f"the key of profile {name} is for {root}, not for {api_root(url)} ({url_source})"
        hint = "give --api-key, or log in to that server with another --profile"
        raise CommandFailed(text, AUTHENTICATION, hint=hint)
    key = profile.get("api_key")
    if key is None:
        key = _use_keyring("read", lambda ring: ring.get_password(_SERVICE, _user(name, root)))
    if key is None:
        hint = f"run `flowmaestro login --profile {name}`"
        text = f"the keyring has no key for profile {name}"
        raise CommandFailed(text, AUTHENTICATION, hint=hint)
    return Credentials(key, profile["base_url"], f"profile {name}", f"profile {name}")


def existing_profile(name: str, source: str) -> Mapping[str, str]:
    """Return the profile `name`.

    Raises `CommandFailed`, naming `source`, if there is none, and as `read_profiles` does.
    """
    profiles = read_profiles()
    if name in profiles:
        return profiles[name]
    known = f"there are {', '.join(sorted(profiles))}" if profiles else "there are none"
    hint = f"{known}; `flowmaestro login --profile NAME` makes one"
    raise CommandFailed(f"{source}: there is no profile {name!r}", USAGE, hint=hint)


def profiles_file() -> Path:
    """Return the path of the file of profiles, which may not exist yet.

    Raises `RuntimeError` if this user has no home folder, or a variable names a relative path.
    """
    return user_folder("config") / _FILE


def read_profiles() -> Dict[str, Mapping[str, str]]:
    """Return the profiles by name; none if there is no file or no home folder.

    Each has `base_url`, and `api_key` unless the key is in a keyring. Raises `CommandFailed` if the
    file cannot be read or is malformed.
    """
    try:
        path = profiles_file()
        text = path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError, RuntimeError):  # RuntimeError: no home folder.
        return {}
    except (OSError, UnicodeDecodeError) as error:
        text = f"{profiles_file()} cannot be read: {getattr(error, 'strerror', None) or error}"
        raise CommandFailed(text, FAILED) from None
    try:
        found: Any = json.loads(text)
        for profile in found.values():
            api_root(profile["base_url"])
            if not isinstance(profile.get("api_key", ""), str):
                raise TypeError
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        hint = "correct it, or delete it and run `flowmaestro login`"
        raise CommandFailed(f"{path} is malformed", FAILED, hint=hint) from None
    return cast("Dict[str, Mapping[str, str]]", found)


def keep_profile(name: str, base_url: str, api_key: str, *, in_file: bool) -> Tuple[str, str]:
    """Save a profile. Return a text that says where its key is, and one about its former key.

    The key goes to the file if `in_file` is True, if there is no keyring, or if the keyring saves
    nothing; else to the keyring. A former key does not stay in the keyring. If it cannot be deleted
    there, the second text says so; otherwise this text is "". Raises `CommandFailed` if the keyring
    fails or does not answer within a minute, or if the file cannot be read.
    """
    user = _user(name, api_root(base_url))
    in_ring = not in_file and _keep_in_keyring(user, api_key)
    kept = {"base_url": base_url} if in_ring else {"base_url": base_url, "api_key": api_key}
    old = _change(name, kept)
    # Deleted last: the file may not be written, and a locked keyring must not prevent that.
    left = ""
    if (
        old is not None
        and "api_key" not in old
        and not (in_ring and _user(name, api_root(old["base_url"])) == user)
    ):
        left = _forget(name, old)
    return ("the keyring" if in_ring else str(profiles_file())), left


def drop_profile(name: str) -> bool:
    """Delete a profile and its key. Return whether there was one of that name.

    Raises `CommandFailed` if the file cannot be read. Raises it, too, if the keyring fails: the
    profile is deleted then, but its key may still be in the keyring.
    """
    profile = _change(name, None)
    if profile is None:
        return False
    left = "" if "api_key" in profile else _forget(name, profile)
    if left:
        raise CommandFailed(f"profile {name} is deleted, but its key {left}", AUTHENTICATION)
    return True


def _change(name: str, profile: Optional[Mapping[str, str]]) -> Optional[Mapping[str, str]]:
    """Store the profile `name`, or with `None` delete it. Return its former value, if any."""
    old: Optional[Mapping[str, str]] = None

    def change() -> str:
        nonlocal old
        profiles = read_profiles()
        old = profiles.pop(name, None)
        if profile is not None:
            profiles[name] = profile
        return json.dumps(profiles, indent=2) + "\n"

    change_private(profiles_file(), change)
    return old


def _user(name: str, root: str) -> str:
    """Return the user name of the keyring's entry for the profile `name`.

    It contains the API root `root`. So an edited file of profiles cannot send a key to another API
    root.
    """
    return f"{name} at {root}"


def _keep_in_keyring(user: str, api_key: str) -> bool:
    """Save the key in the keyring. Return whether it can be read from there now.

    Some backends save nothing, and raise no error. Return False without a keyring, too. Raises
    `CommandFailed` if the keyring fails, or does not answer within a minute.
    """

    def keep(ring: Any) -> bool:
        try:
            ring.set_password(_SERVICE, user, api_key)
        except ring.errors.NoKeyringError:
            return False
        return bool(ring.get_password(_SERVICE, user) == api_key)

    try:
        import_module("keyring")
    except ImportError:
        return False
    return bool(_use_keyring("written", keep, seconds=60.0))  # The user may have to unlock it.


def _forget(name: str, profile: Mapping[str, str]) -> str:
    """Delete the key of a profile from the keyring.

    Return "", or the end of a sentence that says where the key may still be, and why.
    """
    user = _user(name, api_root(profile["base_url"]))

    def forget(ring: Any) -> None:
        with suppress(ring.errors.PasswordDeleteError):  # It is not there.
            ring.delete_password(_SERVICE, user)

    try:
        _use_keyring("written", forget)
    except CommandFailed as error:
        return f"may still be in the keyring (service {_SERVICE}, user {user!r}): {error}"
    return ""


def _use_keyring(what: str, use: Callable[[Any], Any], seconds: float = KEYRING_TIMEOUT) -> Any:
    """Call `use` with the package `keyring`, and return its result.

    Raises `CommandFailed` if the package is missing, if `use` fails, or if it takes more than
    `seconds`. The error says that the keyring cannot be `what`: `read` or `written`.
    """
    from threading import Thread

    found: List[Any] = []
    failed: List[str] = []

    def work() -> None:
        try:
            keyring: Any = import_module("keyring")
            import_module("keyring.errors")
            found.append(use(keyring))
        except ImportError:
            failed.append("the package keyring is missing: pip install 'flowmaestro[keyring]'")
        except Exception as error:  # A backend may raise what its own libraries raise.
            failed.append(str(error) or type(error).__name__)

    # A daemon: a backend that never returns must not keep the command from its end.
    thread = Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if found:
        return found[0]
    why = failed[0] if failed else f"it did not answer within {seconds:g} s"
    text = f"the keyring cannot be {what}: {' '.join(why.split())}"
    raise CommandFailed(text, AUTHENTICATION, hint=_INSTEAD)
