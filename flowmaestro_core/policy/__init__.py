"""When to try again, when to poll, and how long a stream may be quiet: pure decisions."""
