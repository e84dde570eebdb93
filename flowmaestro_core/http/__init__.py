"""HTTP as plain values: messages, dates, URLs, and which parts of them are secret."""
