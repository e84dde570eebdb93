"""The effects that the user names: their calls are steps, counted, at which the process may die.

An effect is put in the place of the user's function wherever the task finds it: as an attribute of
its object or module, in the variables of modules and of the functions around the task, and among
the arguments of the task.
"""

from __future__ import annotations

import functools
import inspect
import pkgutil
import sys
from contextlib import contextmanager
from types import FunctionType, MethodType
from typing import Any, Callable, Dict, Generator, Iterable, Iterator, List, Optional, Union

from flowmaestro.testing.crashes.process import Effect as Done
from flowmaestro.testing.crashes.process import Process, current
from flowmaestro.testing.crashes.steps import comparable, shown


class Effect:
    """A function, or a `with` block, of the task that changes something outside of FlowMaestro.

    Args:
        target: the function or method that the task calls, or the context manager that it enters: a
            class, an object, or a function decorated with `contextlib.contextmanager` or
            `contextlib.asynccontextmanager`. If the task cannot be searched for it, its name where
            the task looks it up: `"module.function"`.
        exactly_once: whether a second call is a mistake. Otherwise only a missing one is.
        key: returns what tells one call from another, from the arguments of the call. By default,
            these are the arguments themselves, without ids that the fake gives out, and times.

    Raises `TypeError` if `target` is neither a text nor callable nor a context manager.

    """

    def __init__(
        self,
        target: Union[str, Callable[..., Any], Any],
        *,
        exactly_once: bool = False,
        key: Optional[Callable[..., object]] = None,
    ) -> None:
        is_block = hasattr(target, "__enter__") or hasattr(target, "__aenter__")
        if not (isinstance(target, str) or callable(target) or is_block):
            raise TypeError(
                "an effect must be a function, a context manager, or the name of one "
                f"('module.function'), not {target!r}"
            )
        self.target = target
        self.exactly_once = exactly_once
        self.key = key

    @property
    def name(self) -> str:
        """The name of the target, for people."""
        if isinstance(self.target, str):
            return self.target
        name = getattr(self.target, "__qualname__", type(self.target).__qualname__)
        return str(name).rpartition("<locals>.")[2]

    def __repr__(self) -> str:
        return f"Effect({self.name!r}, exactly_once={self.exactly_once})"


def _wrapped(effect: Effect, target: Any) -> Any:
    """Return what takes the place of an effect's target."""
    name = effect.name

    def step(process: Process, args: Any, kwargs: Any) -> Any:
        key = effect.key(*args, **kwargs) if effect.key is not None else (args, kwargs)
        return _counted(process, name, shown(args)[1:-1].rstrip(","), comparable(key))

    inner = inspect.unwrap(target) if callable(target) else target
    opens = inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner)
    if opens or (isinstance(target, type) and _is_block(target)):

        @functools.wraps(target, updated=())
        def opened(*args: Any, **kwargs: Any) -> Any:
            process = current.get()
            block = target(*args, **kwargs)
            return block if process is None else Block(block, process, step, args, kwargs)

        return opened
    if not callable(target):
        return _BlockOfProcess(target, step)
    if inspect.iscoroutinefunction(target):

        @functools.wraps(target)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            process = current.get()
            if process is None:
                return await target(*args, **kwargs)
            with step(process, args, kwargs):
                return await target(*args, **kwargs)

        return awaited

    @functools.wraps(target, updated=())
    def called(*args: Any, **kwargs: Any) -> Any:
        process = current.get()
        if process is None:
            return target(*args, **kwargs)
        with step(process, args, kwargs):
            return target(*args, **kwargs)

    return called


@contextmanager
def _counted(process: Process, name: str, said: str, key: str) -> Generator[None, None, None]:
    """Take the step of an effect, and count it if it is carried out without an exception."""
    run = process.run
    with process.step("effect", f"effect {name}", f"{name}({said})") as step:
        yield
        run.effects.append(Done(name, key, step, len(run.steps) - 1))


def _is_block(value: Any) -> bool:
    return hasattr(value, "__enter__") or hasattr(value, "__aenter__")


class Block:
    """A `with` block that is an effect, of one process. It acts at its end, if nothing is raised.

    If the process has died, the end of the block is not carried out.
    """

    def __init__(
        self, block: Any, process: Process, step: Callable[..., Any], args: Any, kwargs: Any
    ) -> None:
        self._block, self._process = block, process
        self._step = functools.partial(step, process, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._block, name)

    def __enter__(self) -> Any:
        self._process.check_alive()
        return self._block.__enter__()

    def __exit__(self, *error: object) -> Any:
        if self._process.is_dead:
            return None
        if error[0] is not None:
            return self._block.__exit__(*error)
        with self._step():
            return self._block.__exit__(*error)

    async def __aenter__(self) -> Any:
        self._process.check_alive()
        return await self._block.__aenter__()

    async def __aexit__(self, *error: object) -> Any:
        if self._process.is_dead:
            return None
        if error[0] is not None:
            return await self._block.__aexit__(*error)
        with self._step():
            return await self._block.__aexit__(*error)


class _BlockOfProcess:
    """A context manager of the user that is an effect. Each process enters a `Block` of it."""

    def __init__(self, block: Any, step: Callable[..., Any]) -> None:
        self._target, self._step = block, step
        self._entered: List[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def _begin(self) -> Any:
        process = current.get()
        block = self._target
        if process is not None:
            block = Block(self._target, process, self._step, (), {})
        self._entered.append(block)
        return block

    def __enter__(self) -> Any:
        return self._begin().__enter__()

    def __exit__(self, *error: object) -> Any:
        return self._entered.pop().__exit__(*error)

    async def __aenter__(self) -> Any:
        return await self._begin().__aenter__()

    async def __aexit__(self, *error: object) -> Any:
        return await self._entered.pop().__aexit__(*error)


class Substitutes:
    """What stands in the places of the named effects, from `put` to `remove`."""

    def __init__(self) -> None:
        self._undo: List[Callable[[], object]] = []

    def put(self, effects: Iterable[Effect], task: Any, given: Any) -> Any:
        """Put each effect in the place of its target. Return `given` with the effects in it.

        `given` are the positional and the named arguments of the task. Raises `ValueError` if an
        effect is found nowhere.
        """
        args, kwargs = given
        for effect in effects:
            target = effect.target
            if isinstance(target, str):
                self._put_by_name(effect, target)
                continue
            wrapped = _wrapped(effect, target)
            found = self._put_in_owner(target, wrapped)
            for variables in _variables_of(task):
                found += self._put_in_variables(variables, target, wrapped)
            for cell in _cells_of(task):
                found += self._put_in_cell(cell, target, wrapped)
            replaced = [wrapped if it is target else it for it in args]
            named = {key: wrapped if it is target else it for key, it in kwargs.items()}
            found += sum(it is wrapped for it in (*replaced, *named.values()))
            args, kwargs = replaced, named
            if not found:
                raise ValueError(
                    f"effects: the task cannot reach {effect.name}; name it where the task looks "
                    "it up: effects=['module.function']"
                )
        return args, kwargs

    def remove(self) -> None:
        """Put the targets back."""
        while self._undo:
            self._undo.pop()()

    def _put_by_name(self, effect: Effect, path: str) -> None:
        owner_name, _, name = path.rpartition(".")
        try:
            owner = pkgutil.resolve_name(owner_name)
            target = getattr(owner, name)
        except (ValueError, ImportError, AttributeError):
            raise ValueError(
                f"effects: there is no {path!r}; write 'module.function', as in "
                "effects=['billing.post_invoice'], or pass the function itself"
            ) from None
        self._set(owner, name, _wrapped(effect, target))

    def _put_in_owner(self, target: Any, wrapped: Any) -> int:
        """Replace a method in its object or class. Return how many places were found."""
        name = getattr(target, "__name__", "")
        if isinstance(target, MethodType):
            self._set(target.__self__, name, wrapped)
            return 1
        *outer, last = getattr(target, "__qualname__", "").split(".")
        if not outer or "<locals>" in outer:
            return 0
        owner: Any = sys.modules.get(target.__module__)
        for part in outer:
            owner = getattr(owner, part, None)
        held = vars(owner).get(last) if isinstance(owner, type) else None
        if held is None:
            return 0
        self._set(owner, last, staticmethod(wrapped) if isinstance(held, staticmethod) else wrapped)
        return 1

    def _set(self, owner: Any, name: str, value: Any) -> None:
        local = name in getattr(owner, "__dict__", {})
        before = owner.__dict__[name] if local else None
        try:
            setattr(owner, name, value)
        except AttributeError:
            raise ValueError(
                f"effects: {name} cannot be replaced in {owner!r}; name it by its class, as in "
                f"effects=['module.{type(owner).__name__}.{name}']"
            ) from None
        if local:
            self._undo.append(lambda: setattr(owner, name, before))
        else:
            self._undo.append(lambda: delattr(owner, name))

    def _put_in_variables(self, variables: Dict[str, Any], target: Any, wrapped: Any) -> int:
        names = [name for name, value in list(variables.items()) if value is target]
        for name in names:
            variables[name] = wrapped
            self._undo.append(functools.partial(variables.__setitem__, name, target))
        return len(names)

    def _put_in_cell(self, cell: Any, target: Any, wrapped: Any) -> int:
        if _contents(cell) is not target:
            return 0
        cell.cell_contents = wrapped
        self._undo.append(lambda: setattr(cell, "cell_contents", target))
        return 1


def _variables_of(task: Any) -> Iterator[Dict[str, Any]]:
    """Yield the variables of all modules, and of the functions of the task."""
    modules = [vars(module) for module in list(sys.modules.values()) if hasattr(module, "__dict__")]
    found = {id(it): it for it in (*modules, *(each.__globals__ for each in functions_of(task)))}
    return iter(found.values())


def _cells_of(task: Any) -> Iterator[Any]:
    for function in functions_of(task):
        yield from function.__closure__ or ()


def functions_of(task: Any) -> List[FunctionType]:
    """Return the functions of a task: those that it wraps, and those in their closures."""
    found: List[FunctionType] = []
    left: List[Any] = [task]
    while left:
        each = left.pop()
        if isinstance(each, functools.partial):
            left += [each.func, *each.args]
        elif isinstance(each, MethodType):
            left.append(each.__func__)
        elif isinstance(each, FunctionType):
            if each not in found:
                found.append(each)
                left.append(getattr(each, "__wrapped__", None))
                left += [_contents(cell) for cell in each.__closure__ or ()]
        elif each is task:
            kind: Any = task.__class__
            left.append(getattr(kind, "__call__", None))  # noqa: B004 - it is not called
    return found


def _contents(cell: Any) -> Any:
    """Return what a variable of a closure holds; `None` if it is not assigned yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None
