"""Virtual time: the clock, and transports that live on it."""
