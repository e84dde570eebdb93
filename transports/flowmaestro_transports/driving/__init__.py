"""Driving machines over transports: the drivers, and what clients are built on."""
