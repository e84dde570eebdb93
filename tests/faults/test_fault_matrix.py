"""However a stream goes wrong, the caller gets its terminal event once, or an error of ours."""

from __future__ import annotations

import pytest

from tests.harness.faults.cells import FAULTS, TRANSPORTS, cells_of, complaint
from tests.harness.faults.clients import follow_all
from tests.harness.faults.server import FaultServer


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_at_every_point_ends_as_documented(fault: str, transport: str) -> None:
    cells = cells_of(transport, fault)
    with FaultServer() as server:
        for cell in cells:
            server.stage(cell)
        outcomes = follow_all(transport, server.url, cells)
    complaints = {cell: complaint(cell, seen) for cell, seen in zip(cells, outcomes)}
    wrong = [f"{cell.execution_id}: {text}" for cell, text in complaints.items() if text]
    assert cells
    assert not wrong, "\n".join(wrong)
