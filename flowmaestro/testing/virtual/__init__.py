"""Transports in memory, and the clocks, virtual or real, that they take their time from."""
