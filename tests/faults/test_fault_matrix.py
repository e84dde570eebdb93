"""However a stream goes wrong, the caller gets its terminal event once, or an error of ours."""

from __future__ import annotations

from typing import Any, Dict, Tuple

import pytest

from tests.harness.faults.cells import FAULTS, TRANSPORTS, cells_of, complaint
from tests.harness.faults.clients import follow_all
from tests.harness.faults.server import FaultServer


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_at_every_point_ends_as_documented(
    fault: str, transport: str, fault_server: FaultServer, enter: Any
) -> None:
    cells = cells_of(transport, fault)
    for cell in cells:
        fault_server.stage(cell)
    outcomes = follow_all(transport, fault_server.url, cells)

    complaints = {cell: complaint(cell, seen) for cell, seen in zip(cells, outcomes)}
    wrong = {cell: text for cell, text in complaints.items() if text}
    points: Dict[Tuple[bool, int], bool] = {(cell.ids, cell.point): True for cell in cells}
    points.update(dict.fromkeys([(cell.ids, cell.point) for cell in wrong], False))
    enter(
        fault,
        transport,
        (sum(points.values()), len(points)),
        (len(cells) - len(wrong), len(cells)),
    )
    assert not wrong, "\n".join(f"{cell.execution_id}: {text}" for cell, text in wrong.items())
