"""As much of each engine as the recipes in `examples/engines/` use, without the engine.

`recipe` imports one of them with these modules in the place of the engine's own. What the engine
keeps is an object in memory, which a test passes to the recipe as its store.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Callable, Dict, List

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples" / "engines"


class Retry(Exception):
    """What a task raises to be called again later."""


class CeleryTask:
    """A task of Celery. `apply` makes one attempt."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def apply(self, args: Any, task_id: str, **request: Any) -> Any:
        task = SimpleNamespace(
            request=SimpleNamespace(id=task_id, **request), retry=lambda **_: Retry("later")
        )
        value = self.function(task, *args)
        return SimpleNamespace(get=lambda: value)


class Celery:
    def __init__(self, *_: Any, **__: Any) -> None:
        self.conf = SimpleNamespace(update=lambda **_: None)

    def task(self, **_: Any) -> Callable[[Any], CeleryTask]:
        return CeleryTask


class Runs:
    """The runs of Dagster with their tags, which survive their processes."""

    def __init__(self) -> None:
        self.tags: Dict[str, Dict[str, str]] = {}

    def get_run_by_id(self, id: str) -> Any:
        return SimpleNamespace(tags=dict(self.tags.get(id, {})))

    def add_run_tags(self, id: str, tags: Dict[str, str]) -> None:
        self.tags.setdefault(id, {}).update(tags)


def op_context(runs: Any, config: Dict[str, str], run_id: str = "run-1") -> Any:
    run = SimpleNamespace(tags={}, run_id=run_id)
    return SimpleNamespace(run=run, run_id=run_id, op_handle="op", op_config=config, instance=runs)


class TaskStates:
    """The `task_state_store` of a task instance of Airflow."""

    def __init__(self) -> None:
        self.kept: Dict[str, Any] = {}

    def get(self, name: str) -> Any:
        return self.kept.get(name)

    def set(self, name: str, value: Any, *, retention: Any) -> None:
        self.kept[name] = value


class AirflowTask:
    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def expand(self, **_: Any) -> None:
        pass


class Deferred(BaseException):
    """What an operator raises that leaves the rest to a trigger."""

    def __init__(self, trigger: Any, method: str) -> None:
        super().__init__(method)
        self.trigger, self.method = trigger, method


class BaseOperator:
    def __init__(self, **kwargs: Any) -> None:
        self.task_id = kwargs.get("task_id")

    @classmethod
    def partial(cls, **_: Any) -> Any:
        return SimpleNamespace(expand=lambda **_: None)

    def defer(self, *, trigger: Any, method_name: str) -> Any:
        raise Deferred(trigger, method_name)


class DAG:
    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> DAG:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Kept:
    """Values by name: the variables of Prefect, or the metadata of Dask's scheduler."""

    def __init__(self) -> None:
        self.kept: Dict[str, Any] = {}

    def get(self, name: str) -> Any:
        return self.kept.get(name)

    def set(self, name: str, value: Any, *, overwrite: bool = True) -> None:
        self.kept[name] = value

    def get_metadata(self, name: List[str], default: Any = None) -> Any:
        return self.kept.get(str(name), default)

    def set_metadata(self, name: List[str], value: Any) -> None:
        self.kept[str(name)] = value


class Beats:
    """The details of the last heartbeat of an activity, which Temporal's server has."""

    def __init__(self) -> None:
        self.details: List[Any] = []

    def get(self) -> List[Any]:
        return list(self.details)

    def beat(self, *details: Any) -> None:
        self.details = list(details)


def _decorator(*_: Any, **__: Any) -> Callable[[Any], Any]:
    return lambda function: function


def _plain(function: Any) -> Any:
    return function


def _any(**names: Any) -> SimpleNamespace:
    return SimpleNamespace(**names)


class Anything:
    """Takes any arguments, and has any attributes."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return Anything()


MODULES: Dict[str, Dict[str, Any]] = {
    "redis": {"Redis": _any(from_url=lambda url: _any(register_script=lambda text: None))},
    "celery": {"Celery": Celery},
    "dagster": {
        **dict.fromkeys(("job", "asset"), _plain),
        **dict.fromkeys(("op", "sensor"), _decorator),
        **dict.fromkeys(
            ("DagsterRunStatus", "DefaultSensorStatus", "OpExecutionContext"), Anything()
        ),
        **dict.fromkeys(("RetryPolicy", "RunRequest", "RunsFilter"), Anything),
        "SensorEvaluationContext": Anything,
    },
    "airflow": {},
    "airflow.sdk": {"DAG": DAG, "task": lambda **_: AirflowTask, "BaseOperator": BaseOperator},
    "airflow.sdk.execution_time": {},
    "airflow.sdk.execution_time.context": {"NEVER_EXPIRE": object()},
    "airflow.triggers": {},
    "airflow.triggers.base": {"BaseTrigger": object, "TriggerEvent": dict},
    "prefect": {"flow": _decorator},
    "prefect.variables": {"Variable": None},
    "temporalio": {
        "activity": _any(defn=_plain, info=None, heartbeat=None),
        "workflow": _any(
            defn=_plain,
            run=_plain,
            unsafe=_any(imports_passed_through=DAG),
            execute_activity=None,
        ),
    },
    "temporalio.client": {"Client": None},
    "temporalio.exceptions": {"ApplicationError": Anything},
    "temporalio.worker": {"Worker": None},
    "distributed": {"Client": None, "get_client": None},
}


class ApplicationError(Exception):
    def __init__(self, message: str, **_: Any) -> None:
        super().__init__(message)


MODULES["temporalio.exceptions"]["ApplicationError"] = ApplicationError


def recipe(name: str, monkeypatch: Any) -> Any:
    """Return the module of a recipe, made anew, without its engine."""
    for module_name, names in MODULES.items():
        module = ModuleType(module_name)
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, module_name, module)
    found: Dict[str, Any] = {}
    for each in dict.fromkeys(("flowmaestro_airflow", name)):
        spec = importlib.util.spec_from_file_location(each, EXAMPLES / f"{each}.py")
        assert spec is not None
        assert spec.loader is not None
        found[each] = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, each, found[each])
        spec.loader.exec_module(found[each])
    return found[name]
