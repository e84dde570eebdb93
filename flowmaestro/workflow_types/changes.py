"""Compares a file of types with what a server knows now: what is no longer safe, in words. Pure.

A server that declares inputs is believed. Of runs, only those count that are newer than those of
the file, and only if chance cannot explain them: an account that has not changed gets other runs.
"""

from __future__ import annotations

import math
from typing import Iterable, List, NamedTuple, Optional, Sequence

from flowmaestro.workflow_types.annotations import accepts, are_disjoint, in_words
from flowmaestro.workflow_types.evidence import (
    DECLARED,
    PINNED,
    SEEN,
    UNKNOWN,
    Key,
    Keys,
    Run,
    WorkflowTypes,
    seen_keys,
)
from flowmaestro.workflow_types.source import shown

NO_CHANCE = 10**9
"""If all of `n` runs have a key and all of `m` others have not, then one in so many orders of the
runs is like that, or fewer, unless something has changed. An account with thousands of keys may be
compared each hour for a year."""

MOST_NEW = 5
"""New workflows that are named; of more, only the number is said, as for a file of a few."""


class Change(NamedTuple):
    """A difference between the file and the server.

    Attributes:
        breaks: whether a caller who keeps to the file is no longer safe.
        text: the difference in words.

    """

    breaks: bool
    text: str


def changes_of(
    constant: str, old: WorkflowTypes, now: Optional[WorkflowTypes], runs: Sequence[Run]
) -> List[Change]:
    """Return the differences of a workflow; those that break callers first.

    Args:
        constant: the name of the workflow's constant in the file.
        old: the workflow in the file.
        now: the workflow of the server, with pins; `None` if it is gone.
        runs: its completed runs that were looked at.

    """
    if now is None:
        return [Change(True, f"{constant}: the workflow {_quoted(old.name or old.id)} is gone")]
    found: List[Change] = []
    if old.name and shown(now.name) != old.name:
        text = f"the workflow {_quoted(old.name)} is called {_quoted(now.name)} now"
        found.append(Change(False, text))
    found += _Comparison("input", old.inputs, now.inputs, runs).changes()
    if old.outputs is not None:
        found += _Comparison("output", old.outputs, now.outputs or Keys(), runs).changes()
    found.sort(key=lambda it: not it.breaks)
    return [Change(it.breaks, f"{constant}: {it.text}") for it in found]


class _Comparison:
    """Compares the keys of inputs, or of outputs: those of the file with those of the server."""

    def __init__(self, noun: str, old: Keys, now: Keys, runs: Iterable[Run]) -> None:
        self._noun = noun
        self._old = old
        self._now = now
        after = -math.inf if old.newest is None else old.newest + 1
        newer = [it for it in runs if it.created_at is not None and it.created_at >= after]
        self._newer = seen_keys(newer, outputs=noun == "output")

    def changes(self) -> List[Change]:
        """Return the differences, in the order of the names of keys."""
        if self._old.known == UNKNOWN:
            are_known = self._now.known != UNKNOWN
            return [self._told(f"its {self._noun}s are known now")] if are_known else []
        names = sorted({*self._old.by_name, *self._now.by_name})
        each = (self._of_key(name) for name in names)
        return [change for change in each if change is not None]

    def _of_key(self, name: str) -> Optional[Change]:
        old, now = self._old.by_name.get(name), self._now.by_name.get(name)
        what = f"{self._noun} `{shown(name)}`"
        if now is not None and now.known != SEEN:
            return self._of_certain(what, old, now)
        if now is None and self._now.known == DECLARED:
            return Change(True, f"{what} is gone")
        if now is None and old is not None and old.known == PINNED:
            return Change(True, f"{what} is no longer set in pyproject.toml")
        return self._of_seen(what, old, self._newer.by_name.get(name))

    def _of_certain(self, what: str, old: Optional[Key], now: Key) -> Optional[Change]:
        """Compare a key that the server declares, or that the user sets."""
        if old is None:
            is_needed = "required" if now.required else "optional"
            return Change(now.required, f"{what} is new, and {is_needed}")
        if now.required and not old.required:
            return Change(True, f"{what} is required now")
        if not accepts(now.type, old.type) and "Any" not in old.type:
            text = f"{what} must be {in_words(now.type)} now, not {in_words(old.type)}"
            return Change(True, text)
        if old.required and not now.required:
            return self._told(f"{what} is optional now")
        if now.type != old.type:
            return self._told(f"{what} may be {in_words(now.type)} now")
        return None

    def _of_seen(self, what: str, old: Optional[Key], newer: Optional[Key]) -> Optional[Change]:
        """Compare a key that only runs show. `newer` is the key in the newer runs."""
        runs, count = self._newer.runs, 0 if newer is None else newer.seen
        last = f"the last {runs} runs" if runs > 1 else "the last run"
        some = f"{count} of {last}" if runs > 1 else last
        if old is None:
            if not count:
                return None
            if count == runs and self._is_no_chance(self._old.runs, runs):
                return Change(self._noun == "input", f"{what} is new in all of {last}")
            return self._told(f"{what} is new in {some}")
        before = old.seen
        if before == self._old.runs and not count and self._is_no_chance(before, runs):
            return Change(True, f"{what} is in none of {last}")
        if newer is None:
            return None
        if not accepts(old.type, newer.type):
            text = f"{what} is {in_words(newer.type)} in {last}, not {in_words(old.type)}"
            differs = are_disjoint(old.type, newer.type)
            return Change(differs and self._is_no_chance(before, count), text)
        if old.required and count < runs:
            return self._told(f"{what} is optional now: it is in {some}")
        return None

    def _is_no_chance(self, old: int, new: int) -> bool:
        """Return whether chance cannot explain that `old` runs differ from `new` later ones."""
        return math.comb(old + new, new) >= NO_CHANCE

    def _told(self, text: str) -> Change:
        return Change(False, text)


def _quoted(name: str) -> str:
    return f'"{shown(name)}"'


def new_workflows(names: Sequence[str]) -> List[Change]:
    """Return what is to be said of workflows that the file does not have, given their names."""
    if len(names) > MOST_NEW:
        return [Change(False, f"{len(names)} workflows are new")]
    return [Change(False, f"the workflow {_quoted(name)} is new") for name in names]
