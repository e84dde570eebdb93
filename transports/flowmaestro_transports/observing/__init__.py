"""Telling hooks and logs what happens on the wire."""
