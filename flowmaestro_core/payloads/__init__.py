"""Request bodies and decoded replies."""
