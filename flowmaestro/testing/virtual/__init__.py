"""Transports in memory, to the fake, a script or a cassette, on a virtual or a real clock."""
