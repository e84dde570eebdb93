"""Parts that commands share: the client, the workflow that the user means, and its inputs."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    cast,
)

from flowmaestro import FlowMaestroClient, Hooks, ServerError, StreamTimes
from flowmaestro.cli import AUTHENTICATION, NOT_FOUND, NOT_UNICODE, USAGE, CommandFailed
from flowmaestro.cli.console import Lines
from flowmaestro.cli.credentials import Credentials, credentials_of
from flowmaestro.input_files import parse_json, read_object
from flowmaestro.inputs import check_inputs, schema_problem
from flowmaestro_core.http.urls import api_root
from flowmaestro_core.payloads.json_values import text_or_empty

SHORTEST_BEGINNING = 6
"""How many characters a user must type, at least, instead of a whole id or name. Six digits of a
UUID have 16 million values, so two of a thousand ids hardly begin alike."""
STREAM_TIMES = StreamTimes(event_idle=2.0, event_idle_max=5.0)
"""Somebody waits at the terminal, so polls of an execution without events come more often than by
default. That costs a key at most 12 of its 300 requests a minute."""
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def client_for(options: argparse.Namespace, hooks: Optional[Hooks] = None) -> FlowMaestroClient:
    """Return a client for the server and the key of the arguments, environment or profile.

    The client calls `hooks`, if given. Raises `CommandFailed` if there is no key, for a malformed
    key, and as `credentials_of` does.
    """
    found = credentials_for(options)
    hint = "run `flowmaestro login`, set FLOWMAESTRO_API_KEY or give --api-key"
    if found.api_key is None and "FLOWMAESTRO_API_KEY" in os.environ:
        text = "there is no API key: FLOWMAESTRO_API_KEY is empty"
        raise CommandFailed(text, AUTHENTICATION, hint=hint)
    try:
        return FlowMaestroClient(
            found.api_key, base_url=found.base_url, hooks=hooks, stream_times=STREAM_TIMES
        )
    except ValueError as error:
        if str(error).startswith("no API key"):
            raise CommandFailed("there is no API key", AUTHENTICATION, hint=hint) from error
        text = str(error).replace("api_key", f"the key from {found.key_source}", 1)
        raise CommandFailed(text, USAGE) from error


def credentials_for(options: argparse.Namespace) -> Credentials:
    """Return the key and the server of a command.

    They are read once, and stored in `options`, because a keyring may ask the user each time.
    """
    found: Optional[Credentials] = getattr(options, "credentials", None)
    if found is None:
        found = options.credentials = credentials_of(options)
    return found


def server_words(options: argparse.Namespace) -> str:
    """Return the options that name the server, to add to a command that the user is shown.

    They begin with a space. `--api-key` is left out, because a key is not repeated.
    """
    given = (("--profile", options.profile), ("--base-url", options.base_url))
    return "".join(f" {name} {shlex.quote(value)}" for name, value in given if value is not None)


def root_of(options: argparse.Namespace) -> str:
    """Return the API root of the client that `client_for` makes."""
    return api_root(credentials_for(options).base_url)


def place_of(options: argparse.Namespace) -> str:
    """Return the API root and the profile of a command; ids are remembered by it."""
    source = credentials_for(options).key_source
    return f"{root_of(options)} {source[8:] if source.startswith('profile ') else ''}"


class Found(NamedTuple):
    """The resource that the user means; its name is "" if it is not known."""

    id: str
    name: str = ""


KINDS = {
    "workflow": "workflows",
    "agent": "agents",
    "knowledge base": "knowledge_bases",
    "trigger": "triggers",
}
"""The resource of the client, by what users name."""


def find(client: FlowMaestroClient, kind: str, text: str) -> Found:
    """Return the resource that the user means; `kind` is one of `KINDS`.

    If `text` is a UUID, it is the id, and no request is sent. Otherwise the list of this kind is
    searched for this id, then for this name, then for an id or a name that begins with `text`, if
    that has at least `SHORTEST_BEGINNING` characters. Unless `text` is an id, the name and id that
    were chosen are written to standard error, if there is a name. Raises `CommandFailed` if `text`
    is empty, and unless exactly one fits. Raises `ServerError` (code `invalid_response`) if the
    chosen one has no id.
    """
    resource: Any = getattr(client, KINDS[kind])
    if not text:
        raise CommandFailed(f"{kind.replace(' ', '_')}_id must be an id, not ''", USAGE)
    if _UUID.fullmatch(text):
        return Found(text)
    found: List[Found] = []
    for row in objects(resource.iterate(per_page=100)):
        found.append(Found(text_or_empty(row["id"]), str(row["name"] or "")))
        if row["id"] == text:
            return found[-1]
    chosen = meant(kind, text, found)
    if chosen.name:
        Lines(sys.stderr).line(f"{chosen.name} is {chosen.id}")
    return chosen


def meant(kind: str, text: str, found: Sequence[Found]) -> Found:
    """Return the one of all resources of a kind that `text` means, by `find`'s rules for a list.

    Raises what `find` raises for a list.
    """
    chosen = [each for each in found if each.id == text]
    chosen = chosen or [each for each in found if each.name == text]
    if not chosen and len(text) >= SHORTEST_BEGINNING:
        chosen = [each for each in found if any(word.startswith(text) for word in each)]
    if not chosen:
        hint = f"`flowmaestro list {kind.replace(' ', '-')}s` shows all"
        close = [name for _, name in found if name.lower().startswith(text.lower())]
        close = close or _closest(text, found)
        if any(word.startswith(text) for each in found for word in each):
            hint = f"the beginning of a name needs at least {SHORTEST_BEGINNING} characters"
        elif close:
            hint = f'did you mean "{close[0]}"? {hint}'
        raise CommandFailed(f'there is no {kind} "{text}"', NOT_FOUND, hint=hint)
    if len(chosen) > 1:
        shown = ", ".join(f"{id} ({name})" for id, name in chosen[:5])
        more = f" and {len(chosen) - 5} more" if len(chosen) > 5 else ""
        said = f'{len(chosen)} {kind}s fit "{text}": {shown}{more}'
        raise CommandFailed(said, USAGE, code="ambiguous", hint="give the id")
    if not chosen[0].id:
        raise unusable(f"has no text as the id of the {kind}")
    return chosen[0]


def _closest(text: str, found: Sequence[Found]) -> List[str]:
    """Return the id or name that differs least from a mistyped text, if one is close to it."""
    from difflib import get_close_matches

    words = {word.lower(): word for each in found for word in each if word}
    # 0.7: three letters of ten may be wrong.
    return [words[word] for word in get_close_matches(text.lower(), words, 1, 0.7)]


def objects(items: Any, name: str = "data") -> Iterator[Dict[str, Any]]:
    """Yield the items of `name`, a list that the server sent. They must be JSON objects.

    `items` is the list or an iterator over it. Raises `ServerError` (code `invalid_response`) if it
    is neither, and at the first item that is not an object.
    """
    problem = f'has no list of dicts as its "{name}"'
    if not isinstance(items, (list, Iterator)):
        raise unusable(problem)
    for item in cast("Iterable[Any]", items):
        if not isinstance(item, dict):
            raise unusable(problem)
        yield cast("Dict[str, Any]", item)


def unusable(problem: str) -> ServerError:
    """Return the error for a response that this API does not send."""
    text = f"The server's response {problem}; this API does not send such responses"
    return ServerError(text, "invalid_response")


def inputs_of(options: argparse.Namespace) -> Dict[str, Any]:
    """Return the inputs of `--input-file` and `-i`.

    An input of `-i` replaces the one of the same name in the file. Raises `CommandFailed` for an
    input that is malformed or given twice with `-i`. Raises `ValueError` for a file that cannot be
    read or is not a JSON object.
    """
    inputs: Dict[str, Any] = {}
    if options.input_file is not None:
        inputs.update(read_object(options.input_file, f"--input-file {options.input_file}"))
    given: Dict[str, Any] = {}
    for word in options.input:
        name, value = _input(word)
        if name in given:
            raise CommandFailed(f"-i {name} is given twice", USAGE)
        try:
            json.dumps({name: value}, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise CommandFailed(f"-i {name}: this {NOT_UNICODE}", USAGE) from error
        given[name] = value
    return {**inputs, **given}


def _input(word: str) -> Tuple[str, Any]:
    """Return the name and the value of one option `-i`.

    Raises `CommandFailed` if it is malformed, or if its file cannot be read.
    """
    name, equals, text = word.partition("=")
    is_json = name.endswith(":")
    name = name[:-1] if is_json else name
    if not equals or not name:
        text = "write -i NAME=TEXT or -i NAME:=JSON"
        raise CommandFailed(f"-i {word}: {text}", USAGE)
    where = f"-i {name}:={text[:40]!r}"
    if text.startswith("@@"):  # Escapes a text that begins with @.
        text = text[1:]
    elif text.startswith("@"):
        where = f"-i {name}{':' if is_json else ''}={text}"
        text = _read_text(text[1:], where)
    if not is_json:
        return name, text
    try:
        return name, parse_json(text, where)
    except ValueError as error:
        hint = f"a text is written -i {name}=TEXT"
        raise CommandFailed(str(error), USAGE, hint=hint) from error


def _read_text(path: str, where: str) -> str:
    escaped = where.partition("=")[2].replace("@", "@@", 1)
    hint = "" if ":=" in where else f"a text that begins with @ is written {escaped}"
    try:
        return Path(path).read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CommandFailed(f"{where}: it is not UTF-8", USAGE) from error
    except OSError as error:
        said = f"{where}: {error.strerror or error}"
        raise CommandFailed(said, USAGE, hint=hint) from error
    except ValueError as error:  # A path with a NUL.
        raise CommandFailed(f"{where}: {error}", USAGE, hint=hint) from error


def workflow_schema(
    client: FlowMaestroClient, options: argparse.Namespace, workflow_id: str
) -> Mapping[str, Any]:
    """Return a mapping with the `input_schema` of `--schema`, else the workflow of the server.

    The mapping is empty with `--no-check`. Raises `CommandFailed` for a file that is not a JSON
    Schema, and `ValueError` for one that cannot be read or is not a JSON object.
    """
    if options.no_check:
        return {}
    if options.schema is None:
        return client.workflows.get(workflow_id)["data"]
    schema = read_object(options.schema, f"--schema {options.schema}")
    problem = schema_problem(schema)
    if problem:
        raise CommandFailed(f"--schema {options.schema}: {problem}", USAGE)
    return {"input_schema": schema}


def check_all_inputs(
    workflow: Mapping[str, Any], given: Iterable[Tuple[str, Mapping[str, Any]]]
) -> None:
    """Raise `CommandFailed` for the first inputs that do not fit the workflow's schema.

    `given` has pairs: the beginning of an error text, and the inputs.
    """
    for lead, inputs in given:
        problems = check_inputs(workflow, inputs)
        if problems:
            typed = _would_fit_as_json(workflow, inputs)
            text = f"{lead}{'; '.join(problems)}; nothing was started"
            hint = f"write {' '.join(typed)}" if typed and not lead else ""
            raise CommandFailed(text, USAGE, hint=hint)


def _would_fit_as_json(workflow: Mapping[str, Any], inputs: Mapping[str, Any]) -> List[str]:
    """Return the options that would mend `inputs`, such as `-i count:=3` for the text "3".

    There is one for each text that is not valid as its input, but would be when read as JSON. They
    are quoted for a shell.
    """
    count = len(check_inputs(workflow, inputs))
    found: List[str] = []
    for name, text in inputs.items():
        if isinstance(text, str):
            try:
                value = parse_json(text, name)
            except ValueError:
                continue
            if len(check_inputs(workflow, {**inputs, name: value})) < count:
                found.append(f"-i {shlex.quote(f'{name}:={text}')}")
    return found


def print_server_text(text: Any) -> None:
    """Write a server's text, such as an id, on one line of standard output."""
    Lines(sys.stdout).copyable(str(cast("object", text)))
