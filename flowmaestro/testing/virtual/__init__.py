"""Virtual time: the clock, and the transports that take their time from it."""
