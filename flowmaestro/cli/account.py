"""Reads from a server, with few requests, what it knows of the inputs of workflows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Set, cast

from flowmaestro import AuthorizationError, FlowMaestroClient, NotFoundError, ServerError
from flowmaestro.cli.session import objects
from flowmaestro.inputs import is_strict
from flowmaestro.workflow_types.evidence import Run, completed_run
from flowmaestro_core.payloads.json_values import count_or_none, text_or_empty

PER_PAGE = 100
"""Executions and workflows of a page: the most that the server sends. A workflow's own list is read
one page far, so its keys are those of its last 100 runs."""
MOST_PAGES = 20
"""Pages of the list of all executions that are read: of 1,000 workflows, it shows most that run."""
FEW = 30
"""So many workflows are read one by one, which costs a free key half of a minute's requests."""
PROBES = 5
"""Of more workflows, so many are read, to learn whether the server declares inputs at all."""
ENOUGH = 10
"""With fewer completed runs in the list of all executions, the workflow's own list is read."""
MOST_UNREADABLE = 3
"""If the first lists of so many workflows fail, it is not the workflows: the server is down."""

Rows = List[Dict[str, Any]]


@dataclass
class Account:
    """What a server knows of some workflows.

    Attributes:
        workflows: the replies of `workflows.get`, else rows of the list; the oldest first.
        runs: the completed runs that were looked at, by the id of the workflow, the newest first.
        unreadable: the ids of workflows whose list of executions the server cannot send.
        may_read_runs: whether the key has the scope `executions:read`.
        requests: how many requests were sent.

    """

    workflows: Rows = field(default_factory=list[Dict[str, Any]])
    runs: Dict[str, List[Run]] = field(default_factory=dict[str, List[Run]])
    unreadable: List[str] = field(default_factory=list[str])
    may_read_runs: bool = True
    requests: int = 0


def read_account(
    client: FlowMaestroClient,
    choose: Callable[[Rows], Rows],
    announce: Callable[[int, Optional[int]], None],
    *,
    outputs: bool = False,
) -> Account:
    """Return what the server of `client` knows of the workflows that `choose` returns.

    Args:
        client: its key needs the scope `workflows:read`.
        choose: called with the rows of all workflows; returns those that are wanted.
        announce: called before a part whose number of requests is known: with how many there will
            be in all, and how many the key has left today, or `None`.
        outputs: whether runs are needed of workflows whose inputs are declared, too.

    Raises the errors of `workflows.list`, `workflows.get` and `executions.list`, but for those that
    `Account` says.

    """
    return _Reader(client, announce, outputs).read(choose)


class _Reader:
    """Reads one account."""

    def __init__(
        self,
        client: FlowMaestroClient,
        announce: Callable[[int, Optional[int]], None],
        outputs: bool,
    ) -> None:
        self._client = client
        self._announce = announce
        self._outputs = outputs
        self._left_today: Optional[int] = None
        self._shown: Dict[str, int] = {}
        """How many executions of each workflow the list of all has shown, of any status."""
        self._oldest_shown = ""
        self._has_ended = False
        self.found = Account()

    def read(self, choose: Callable[[Rows], Rows]) -> Account:
        """Return the account."""
        rows = [row for row in self._all_workflows() if text_or_empty(row.get("id"))]
        self.found.workflows = sorted(choose(rows), key=_age)
        self._read_details()
        lacking = self._lacking()
        if len(lacking) > PROBES:
            self._read_list_of_all(set(lacking))
            lacking = [id for id in lacking if self._needs_more(id)]
        guess = self._has_ended and len(lacking) > FEW
        if not (guess and self._shows_all(lacking)):
            self._plan(len(lacking))
            for id in lacking:
                if self.found.may_read_runs:
                    self._read_list_of(id)
        return self.found

    def _lacking(self) -> List[str]:
        """Return the ids of the workflows of which runs are needed."""
        rows = self.found.workflows
        return [str(row["id"]) for row in rows if self._outputs or not _declares(row)]

    def _needs_more(self, id: str) -> bool:
        return len(self.found.runs.get(id, ())) < ENOUGH

    def _send(self, call: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        """Return the reply to a call, and count its requests."""
        try:
            reply = call(*arguments, **more)
        except (AuthorizationError, NotFoundError, ServerError) as error:
            self.found.requests += len(error.attempts)
            raise
        self.found.requests += reply.attempts
        self._left_today = reply.rate_limit.remaining_day
        return reply

    def _all_workflows(self) -> Rows:
        rows: Rows = []
        known: Set[Any] = set()
        for page in range(1, 10_000):  # The server's own numbers may be wrong.
            reply = self._send(self._client.workflows.list, page=page, per_page=PER_PAGE)
            new = [row for row in objects(reply["data"]) if row.get("id") not in known]
            known.update(row.get("id") for row in new)
            rows += new
            if not new or reply["pagination"]["has_more"] is False:
                break
        return rows

    def _read_list_of_all(self, wanted: Set[str]) -> None:
        """Read the list of all executions as far as it shows workflows of which few runs are known.

        On a server that several customers share, it may leave out executions, and a short page is
        not the last: it ends with an empty one, or with one that repeats another.
        """
        known: Set[Any] = set()
        for page in range(1, MOST_PAGES + 1):
            try:
                reply = self._send(self._client.executions.list, page=page, per_page=PER_PAGE)
            except AuthorizationError:
                self.found.may_read_runs = False
                return
            except ServerError as error:
                if error.status_code != 500:
                    raise
                return  # Inputs of one execution, that are no object, may break a page.
            new = [row for row in objects(reply["data"]) if row.get("id") not in known]
            known.update(row.get("id") for row in new)
            if not new:
                self._has_ended = True
                return
            lacking = {id for id in wanted if self._needs_more(id)}
            for row in new:
                self._oldest_shown = str(row.get("workflow_id"))
                self._shown[self._oldest_shown] = self._shown.get(self._oldest_shown, 0) + 1
                self._add(row, wanted)
            if lacking.isdisjoint(row.get("workflow_id") for row in new):
                return

    def _add(self, row: Mapping[str, Any], wanted: Iterable[str]) -> None:
        run, id = completed_run(row), str(row.get("workflow_id"))
        if run is not None and id in wanted:
            runs = self.found.runs.setdefault(id, [])
            if len(runs) < PER_PAGE:
                runs.append(run)

    def _read_details(self) -> None:
        """Read each workflow, if there are few, or if the server declares the inputs of any."""
        every = list(range(len(self.found.workflows)))
        first = every
        if len(every) > FEW:
            first = _spread(len(every))
        self._plan(len(first))
        declaring = sum(self._detail(at) for at in first)
        left = sorted(set(every) - set(first)) if declaring else []
        self._plan(len(left))
        for at in left:
            self._detail(at)

    def _detail(self, at: int) -> bool:
        """Read one workflow. Return whether the server declares its inputs."""
        row = self.found.workflows[at]
        try:
            reply = self._send(self._client.workflows.get, row["id"])
        except NotFoundError:  # It was deleted meanwhile; the next command will not find it.
            return False
        self.found.workflows[at] = {**row, **cast("Dict[str, Any]", reply["data"])}
        return _declares(self.found.workflows[at])

    def _shows_all(self, lacking: Sequence[str]) -> bool:
        """Return whether the list of all executions has probably left out none.

        Some workflows' own lists tell: those of workflows that it has not shown, and of the one
        whose run was the oldest. A wrong guess makes types wider than they could be, not wrong.
        """
        hidden = [id for id in lacking if id not in self._shown]
        asked = [hidden[at] for at in _spread(len(hidden))]
        asked += [self._oldest_shown] if self._oldest_shown else []
        return all(self._read_list_of(id) == self._shown.get(id, 0) for id in asked)

    def _read_list_of(self, id: str) -> Optional[int]:
        """Read the first page of a workflow's executions. Return how many it has, if known."""
        try:
            reply = self._send(self._client.executions.list, workflow_id=id, per_page=PER_PAGE)
        except AuthorizationError:
            self.found.may_read_runs = False
            return None
        except ServerError as error:
            if id not in self.found.runs:  # The list of all may have shown some.
                self.found.unreadable.append(id)
            none_read = len(self.found.unreadable) >= MOST_UNREADABLE and not self.found.runs
            if error.status_code != 500 or none_read:
                raise
            return None
        self.found.runs.pop(id, None)
        for row in objects(reply["data"]):
            self._add({**row, "workflow_id": id}, [id])
        return count_or_none(reply["pagination"]["total_count"])

    def _plan(self, count: int) -> None:
        if count:
            self._announce(self.found.requests + count, self._left_today)


def _spread(count: int) -> List[int]:
    """Return up to `PROBES` different numbers from 0 to below `count`, evenly spread."""
    return sorted({at * (count - 1) // (PROBES - 1) for at in range(PROBES)}) if count else []


def _declares(workflow: Mapping[str, Any]) -> bool:
    return is_strict(workflow.get("input_schema"))


def _age(row: Mapping[str, Any]) -> Any:
    return text_or_empty(row.get("created_at")), str(row["id"])
