"""The arguments of a checkpoint, and of the methods that take one."""

from __future__ import annotations

import pathlib
from typing import Any, Dict

import pytest

from flowmaestro_core.checkpoint import Checkpoint
from flowmaestro_core.resources import Triggers, Workflows


def load() -> None: ...


def save(state: Dict[str, Any]) -> None: ...


def test_a_repr_shows_the_settings_and_no_function() -> None:
    kept = Checkpoint(load, save, rerun=["failed"], on_unknown="start", settle_after=5)
    assert repr(kept) == ("<Checkpoint: rerun=('failed',), on_unknown='start', settle_after=5>")
    assert "load" not in repr(kept)
    assert repr(Checkpoint.file("a.json")).startswith("<Checkpoint: file 'a.json', rerun=()")


def test_a_path_may_be_of_any_kind() -> None:
    assert Checkpoint.file(pathlib.PurePath("x") / "y").path == str(pathlib.PurePath("x", "y"))


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: Checkpoint(None, save), TypeError, "load must be a function, not NoneType"),  # type: ignore[arg-type]
        (lambda: Checkpoint(load, {}), TypeError, "save must be a function, not dict"),  # type: ignore[arg-type]
        (lambda: Checkpoint(load, save, rerun="failed"), TypeError, "rerun must be a list"),  # type: ignore[arg-type]
        (lambda: Checkpoint(load, save, rerun=["completed"]), ValueError, "rerun must hold"),
        (lambda: Checkpoint(load, save, on_unknown="ask"), ValueError, "on_unknown must be"),  # type: ignore[arg-type]
        (lambda: Checkpoint(load, save, settle_after=0), ValueError, "settle_after must be"),
        (lambda: Checkpoint.file(5), TypeError, "path must be a path, not int"),  # type: ignore[arg-type]
        (lambda: Checkpoint.file(""), ValueError, "path must not be empty"),
        (lambda: Checkpoint.file("a.new"), ValueError, "path must not end with .new or .lock"),
        (lambda: Checkpoint.file("a.lock"), ValueError, "path must not end with .new or .lock"),
        (lambda: Checkpoint.file("a\0b"), ValueError, "null character"),
        (lambda: Checkpoint.file("a", settle_after=-1), ValueError, "settle_after must be"),
    ],
)
def test_bad_settings_name_the_argument(make: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        make()


CHECKPOINT = Checkpoint(load, save)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (
            lambda: Workflows.run("wf", checkpoint="kept.json"),  # type: ignore[arg-type]
            TypeError,
            r"must be a Checkpoint, not str; to keep it in a file, pass Checkpoint.file\(path\)",
        ),
        (
            lambda: Workflows.execute("wf", checkpoint=pathlib.PurePath("a")),  # type: ignore[arg-type]
            TypeError,
            r"pass Checkpoint.file\(path\)",
        ),
        (
            lambda: Workflows.execute("wf", checkpoint={}),  # type: ignore[arg-type]
            TypeError,
            "must be a Checkpoint, not dict$",
        ),
        (
            lambda: Workflows.run("wf", idempotency_key="k", checkpoint=CHECKPOINT),
            ValueError,
            "idempotency_key must be left out",
        ),
        (
            lambda: Workflows.run_many("wf", [], checkpoint=CHECKPOINT),  # type: ignore[arg-type]
            TypeError,
            "journal=",
        ),
        (
            lambda: Triggers.execute("t", checkpoint=CHECKPOINT),  # type: ignore[arg-type]
            TypeError,
            "journal=",
        ),
    ],
)
def test_invalid_checkpoint_is_refused_at_the_call(call: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        call()


def test_a_bad_workflow_id_is_refused_at_the_call() -> None:
    with pytest.raises(ValueError, match="workflow_id"):
        Workflows.execute("", checkpoint=CHECKPOINT)
