"""Representations of objects as text, HTML and pictures. Pure."""
