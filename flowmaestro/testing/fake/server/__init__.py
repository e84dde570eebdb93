"""The fake on a real port, with its inspector, its seeds and its state file."""
