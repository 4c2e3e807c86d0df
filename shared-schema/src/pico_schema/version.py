"""The package's version, and nothing else: the build backend reads this file."""

__version__ = "1.2.0"
