"""What is known of the inputs and outputs of a workflow, and how it is known. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple, cast

from flowmaestro.inputs import is_strict, mapping_or_empty
from flowmaestro.workflow_types.annotations import (
    Type,
    type_of_schema,
    type_of_values,
)
from flowmaestro_core.payloads.json_values import list_or_empty, text_or_empty
from flowmaestro_core.showing.texts import event_time

DECLARED, SEEN, PINNED, UNKNOWN = "declared", "seen", "pinned", "unknown"
"""How a key is known: the server declares it, runs had it, `pyproject.toml` sets it, not at all."""
KNOWN = (DECLARED, SEEN, PINNED)
MOST_KEYS = 50
"""If runs have more keys than these, and most of them only once, the keys are data, such as
customers. They are then not written."""


class Run(NamedTuple):
    """A completed run: when it was created, in Unix seconds or `None`, its inputs and outputs."""

    created_at: Optional[float]
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]


@dataclass(frozen=True)
class Key:
    """One key of inputs or outputs.

    Attributes:
        type: the type of its values.
        required: whether a caller must give it.
        known: `DECLARED`, `SEEN` or `PINNED`.
        seen: in how many of the runs that were looked at it is; 0 if runs were not needed.
        about: the server's words about it.

    """

    type: Type
    required: bool
    known: str
    seen: int = 0
    about: str = ""


@dataclass(frozen=True)
class Keys:
    """The keys of the inputs, or of the outputs, of a workflow.

    Attributes:
        known: `DECLARED` or `SEEN`; `PINNED` if only the user knows keys; else `UNKNOWN`.
        by_name: the keys, by name.
        runs: how many completed runs were looked at; 0 if the keys are declared.
        oldest: when the oldest of these runs was created, in whole Unix seconds; `None` if unknown.
        newest: the same of the newest.

    """

    known: str = UNKNOWN
    by_name: Mapping[str, Key] = field(default_factory=dict[str, Key])
    runs: int = 0
    oldest: Optional[int] = None
    newest: Optional[int] = None


@dataclass(frozen=True)
class WorkflowTypes:
    """A workflow with its types.

    Attributes:
        id: the id of the workflow.
        name: its name, a text of strangers.
        inputs: the keys of its inputs.
        outputs: the keys of its outputs; `None` if nobody asked for them.
        labels: what the server calls the inputs, if it does not say how a run reads them.

    """

    id: str
    name: str
    inputs: Keys
    outputs: Optional[Keys] = None
    labels: Tuple[str, ...] = ()


def completed_run(execution: Mapping[str, Any]) -> Optional[Run]:
    """Return an execution of a list as a `Run`; `None` if it has not completed, or has no inputs.

    Inputs of the deployed server may be no object; such a run is not evidence.
    """
    inputs = execution.get("inputs")
    if execution.get("status") != "completed" or not isinstance(inputs, Mapping):
        return None
    given = cast("Mapping[str, Any]", inputs)
    outputs = mapping_or_empty(execution.get("outputs"))
    return Run(event_time(execution.get("created_at")), given, outputs)


def declared_keys(schema: Any) -> Optional[Keys]:
    """Return the keys that an `input_schema` declares; `None` if it declares none.

    A schema that the SDK derived from the ids of nodes (`is_strict`) declares none.
    """
    if not is_strict(schema):
        return None
    about = cast("Mapping[str, Any]", schema)
    properties = mapping_or_empty(about.get("properties"))
    required = {name for name in list_or_empty(about.get("required")) if isinstance(name, str)}
    every: Dict[str, Any] = dict.fromkeys(required, True)
    every.update(properties)
    found = {
        name: Key(
            type_of_schema(each, about),
            name in required,
            DECLARED,
            about=text_or_empty(mapping_or_empty(each).get("description")),
        )
        for name, each in every.items()
        if each is not False
    }
    if not found and about.get("additionalProperties") is not False:
        return None
    return Keys(DECLARED, found)


def seen_keys(runs: Iterable[Run], *, outputs: bool = False) -> Keys:
    """Return the keys that runs had in their inputs, or in their outputs.

    A key of inputs is required if each run has it; one of outputs never is.
    """
    every = list(runs)
    values: Dict[str, List[Any]] = {}
    for run in every:
        for name, value in (run.outputs if outputs else run.inputs).items():
            values.setdefault(name, []).append(value)
    once = sum(len(found) == 1 for found in values.values())
    if not every or (len(values) > MOST_KEYS and 2 * once > len(values)):
        return Keys()
    times = [math.floor(run.created_at) for run in every if run.created_at is not None]
    return Keys(
        SEEN,
        {
            name: Key(
                type_of_values(found),
                not outputs and len(found) == len(every),
                SEEN,
                len(found),
            )
            for name, found in values.items()
        },
        len(every),
        min(times, default=None),
        max(times, default=None),
    )


def types_of(
    workflow: Mapping[str, Any], runs: Iterable[Run], *, outputs: bool = False
) -> WorkflowTypes:
    """Return the types of a workflow: declared where the server declares them, else as seen.

    `workflow` is a row of the list of workflows, or the reply of `workflows.get`. The outputs are
    always those seen, and are left out unless `outputs` is True.
    """
    every = list(runs)
    inputs = declared_keys(workflow.get("input_schema")) or seen_keys(every)
    labels: Tuple[str, ...] = ()
    if inputs.known == UNKNOWN:
        nodes = mapping_or_empty(workflow.get("inputs")).values()
        labels = tuple(
            filter(None, (text_or_empty(mapping_or_empty(it).get("label")) for it in nodes))
        )
    return WorkflowTypes(
        str(workflow["id"]),
        text_or_empty(workflow.get("name")),
        inputs,
        seen_keys(every, outputs=True) if outputs else None,
        labels,
    )


def with_pins(workflow: WorkflowTypes, pins: Mapping[str, Optional[Key]]) -> WorkflowTypes:
    """Return the workflow with the inputs that the user sets.

    `pins` adds keys and replaces them; the value `None` removes one.
    """
    if not pins:
        return workflow
    keys = workflow.inputs
    every = {**keys.by_name, **pins}
    left = {name: key for name, key in every.items() if key is not None}
    known = PINNED if keys.known == UNKNOWN else keys.known
    return replace(workflow, inputs=replace(keys, known=known, by_name=left))
