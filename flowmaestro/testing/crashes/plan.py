"""What a user asks of `every_crash`, checked. Each error says what to write instead."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple, Union

from flowmaestro.testing.arguments import check_function, one_of, several, whole
from flowmaestro.testing.crashes.effects import Effect, functions_of
from flowmaestro.testing.crashes.steps import OwnFiles
from flowmaestro.testing.fake.fake_flowmaestro import FakeFlowMaestro

OFFERED = ("client", "store", "folder", "fake", "attempt")
"""The names of parameters of a task that it gets by name."""
FAULTS = ("network", "list")
Budget = Union[int, timedelta, None]


@dataclass(frozen=True)
class Plan:
    """The arguments of one call of `every_crash`: see there."""

    task: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    store: Optional[Callable[..., Any]]
    seed: Optional[Callable[[FakeFlowMaestro], object]]
    effects: Tuple[Effect, ...]
    rows: Optional[int]
    deaths: int
    compare: Optional[Callable[[Any, Any], bool]]
    faults: FrozenSet[str]
    processes: int
    lines: bool
    budget: Budget
    backend: str
    own: OwnFiles

    @property
    def parameters(self) -> Tuple[inspect.Parameter, ...]:
        """The parameters of the task; none if Python does not know them."""
        try:
            return tuple(inspect.signature(self.task).parameters.values())
        except (TypeError, ValueError):
            return ()

    @property
    def needs_folder(self) -> bool:
        """Whether each run needs a folder of its own."""
        return opens_folder(self.store) or any(it.name == "folder" for it in self.parameters)


def opens_folder(store: Optional[Callable[..., Any]]) -> bool:
    """Return whether a factory takes the folder of a run: each process calls it then."""
    if store is None:
        return False
    try:
        parameters = inspect.signature(store).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(it.kind in positional and it.default is it.empty for it in parameters)


def plan_of(
    task: Any,
    args: Sequence[Any],
    kwargs: Optional[Mapping[str, Any]],
    store: Any,
    seed: Any,
    effects: Any,
    rows: Any,
    deaths: Any,
    compare: Any,
    faults: Any,
    processes: Any,
    lines: Any,
    budget: Any,
    backend: str,
) -> Plan:
    """Return the checked plan. Raises `TypeError` or `ValueError`, naming what is wrong."""
    _check_task(task)
    if store is not None and not callable(store):
        raise TypeError(
            f"store must be a function that makes a new store for each run, not a {_kind(store)}: "
            f"write store=lambda: {_kind(store)}(...), or store=lambda folder: ... for a store in "
            "files"
        )
    if seed is not None:
        check_function("seed", seed)
    if not whole(deaths) or deaths < 1:
        raise ValueError(
            f"deaths must be at least 1, not {deaths!r}: without a death, nothing is tried; call "
            "the task itself in a test of its own"
        )
    if not whole(processes) or processes not in (1, 2):
        raise ValueError(f"processes must be 1 or 2, not {processes!r}")
    count = rows if rows is None or whole(rows) else len(several("rows", rows, "inputs"))
    if count is not None and count < 1:
        raise ValueError("rows must be at least 1: the executions that the task must start")
    one_of("backend", backend, ("asyncio", "trio"))
    kinds = several("faults", faults, "kinds of faults")
    for kind in kinds:
        one_of("a fault", kind, FAULTS)
    if budget is not None and not isinstance(budget, timedelta) and not whole(budget):
        raise TypeError(
            f"budget must be a number of runs, or a timedelta, not {budget!r}: write budget=500 or "
            "budget=timedelta(seconds=30)"
        )
    functions = functions_of(task)
    if lines and not (functions and Path(functions[0].__code__.co_filename).is_file()):
        raise ValueError(
            "lines=True needs a task in a file, because it dies at each line of its files; this "
            "one has none: move it into a module"
        )
    plan = Plan(
        task,
        list(args),
        dict(kwargs or {}),
        store,
        seed,
        tuple(it if isinstance(it, Effect) else Effect(it) for it in _several_effects(effects)),
        count,
        deaths,
        compare,
        frozenset(kinds),
        processes,
        bool(lines),
        budget,
        backend,
        OwnFiles(functions[0].__code__ if functions else None),
    )
    arguments_of(plan, {name: lambda: None for name in _offered_by(plan)}, plan.args, plan.kwargs)
    return plan


def _kind(value: object) -> str:
    return type(value).__name__


def _several_effects(effects: Any) -> List[Any]:
    if isinstance(effects, str) or callable(effects):
        raise TypeError(f"effects must be a list, not {effects!r}: write effects=[{effects!r}]")
    return list(effects)


def _check_task(task: Any) -> None:
    inner = task
    while isinstance(inner, functools.partial):
        inner = inner.func
    if not callable(task):
        raise TypeError(f"the task must be a function, not {task!r}")
    called = inner if inspect.isroutine(inner) else getattr(inner, "__call__", inner)  # noqa: B004
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        name = getattr(inner, "__name__", "task")
        raise TypeError(
            f"the task {name} is a generator, which does nothing before it is iterated over: pass "
            f"a function that iterates, such as one that returns list({name}(...))"
        )


def _offered_by(plan: Plan) -> Tuple[str, ...]:
    return tuple(it for it in OFFERED if it != "store" or plan.store is not None)


def arguments_of(
    plan: Plan,
    offered: Mapping[str, Callable[[], Any]],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Tuple[List[Any], Dict[str, Any]]:
    """Return the arguments of one call of the task.

    Parameters with the names in `offered` get what these functions return, unless `kwargs` has
    them. `args` fill the others, in order. Raises `TypeError` if one is left without a value.
    """
    left, named = list(args), dict(kwargs)
    positional: List[Any] = []
    by_name = False
    for each in plan.parameters:
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
            by_name = by_name or each.kind is each.VAR_KEYWORD
            continue
        if each.name in named:
            value = named.pop(each.name)
        elif each.name in offered:
            value = offered[each.name]()
        elif left and each.kind is not each.KEYWORD_ONLY:
            value = left.pop(0)
        elif each.default is not each.empty:
            by_name = True
            continue
        else:
            more = "store=" if each.name == "store" else "args= or kwargs="
            raise TypeError(f"the task needs a value for {each.name!r}: pass it in {more}")
        if by_name or each.kind is each.KEYWORD_ONLY:
            by_name = True
            named[each.name] = value
        else:
            positional.append(value)
    return positional + left, named
