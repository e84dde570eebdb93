"""The clocks of an event stream: which values they may have."""

from __future__ import annotations

import pytest

from flowmaestro_core.policy.stream_times import StreamTimes


@pytest.mark.parametrize("name", StreamTimes.__dataclass_fields__)
def test_a_time_that_a_clock_may_not_show_is_refused(name: str) -> None:
    assert StreamTimes(**{name: 0.001})
    with pytest.raises(ValueError, match=f"{name} must be at least 0.001 seconds, not 1e-09"):
        StreamTimes(**{name: 1e-9})
