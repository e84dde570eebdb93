"""Virtual time: the clock, and the transports whose time it is."""
