"""The package's version, and nothing else: the build backend reads this file."""

__version__ = "2.0.0"
