"""Pure decisions: when to retry, when to poll, and how long a stream may be quiet."""
