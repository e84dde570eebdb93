"""What users know better of their workflows: `[tool.flowmaestro.types]` of `pyproject.toml`."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple, cast

from flowmaestro.cli import USAGE, CommandFailed
from flowmaestro.inputs import mapping_or_empty
from flowmaestro.workflow_types.annotations import read_type
from flowmaestro.workflow_types.evidence import PINNED, Key

Pins = Mapping[str, Optional[Key]]
"""The keys of a workflow that the user sets, by name; `None` for a key that there is not."""
_FILE = "pyproject.toml"


def read_pins(folder: Path) -> Dict[str, Pins]:
    """Return what `pyproject.toml` sets, by the id or name of the workflow.

    The file is that of `folder`, else of the nearest folder above it that has one. Raises
    `CommandFailed` if it is malformed, and `OSError` if it cannot be read.
    """
    path = next((it / _FILE for it in (folder, *folder.parents) if (it / _FILE).is_file()), None)
    if path is None:
        return {}
    tool = mapping_or_empty(mapping_or_empty(_toml(path).get("tool")).get("flowmaestro"))
    table = tool.get("types", {})
    return {
        workflow: _pins(_table(keys, path, (workflow,)), path, workflow)
        for workflow, keys in _table(table, path, ()).items()
    }


def pins_of(pins: Mapping[str, Pins], id: str, name: str) -> Pins:
    """Return the pins of a workflow; those by its id win over those by its name."""
    return {**pins.get(name, {}), **pins.get(id, {})}


def _pins(keys: Mapping[str, Any], path: Path, workflow: str) -> Pins:
    found: Dict[str, Optional[Key]] = {}
    for name, about in keys.items():
        where = _where(path, (workflow, name))
        settings: Mapping[str, Any] = {"type": about}
        if isinstance(about, Mapping):
            settings = cast("Mapping[str, Any]", about)
        if about is False:
            found[name] = None
            continue
        kind, required = settings.get("type"), settings.get("required", True)
        unknown = [each for each in settings if each not in ("type", "required")]
        if not isinstance(kind, str) or not isinstance(required, bool) or unknown:
            text = 'must be a type such as "float", { type = "float", required = false }, or false'
            raise CommandFailed(f"{where} {text}", USAGE)
        try:
            found[name] = Key(read_type(kind), required, PINNED)
        except ValueError as error:
            raise CommandFailed(f"{where}: {error}", USAGE) from error
    return found


def _table(found: Any, path: Path, place: Tuple[str, ...]) -> Mapping[str, Any]:
    if isinstance(found, Mapping):
        return cast("Mapping[str, Any]", found)
    raise CommandFailed(f"{_where(path, place)} must be a table", USAGE)


def _where(path: Path, place: Tuple[str, ...]) -> str:
    words: List[str] = [word if word.isidentifier() else f'"{word}"' for word in place]
    return f"{path}: tool.flowmaestro.types{''.join(f'.{word}' for word in words)}"


def _toml(path: Path) -> Dict[str, Any]:
    try:  # Python has a reader of its own from 3.11 on.
        toml: Any = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    except ImportError as error:
        text = f"{path}: it needs tomli to read it: pip install 'flowmaestro[cli]'"
        raise CommandFailed(text) from error
    try:
        found: Dict[str, Any] = toml.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:  # TOML and UTF-8 alike.
        raise CommandFailed(f"{path}: {' '.join(str(error).split())}", USAGE) from error
    return found
