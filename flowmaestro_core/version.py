"""The version of the SDK. The build reads it from this file."""

__version__ = "1.0.0"
