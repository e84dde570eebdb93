"""Drivers, which run machines over transports, and the executors and handles built on them."""
