"""``python -m pico_schema export DIR``: write the JSON Schema files; ``… verify DIR``: check a checkpoint."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pico_schema.documents import verify_checkpoint
from pico_schema.errors import SchemaError
from pico_schema.export import export
from pico_schema.version import __version__


def parser() -> argparse.ArgumentParser:
    """The command line's commands and options."""
    parser = argparse.ArgumentParser(prog="python -m pico_schema", description="The contract of Pico's documents.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    exporting = commands.add_parser("export", help="write the JSON Schema of each document into a directory")
    exporting.add_argument("directory", type=Path)
    verifying = commands.add_parser("verify", help="re-hash a checkpoint directory against its manifest")
    verifying.add_argument("directory", type=Path)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = parser().parse_args(argv)
    try:
        if options.command == "export":
            for path in export(options.directory):
                sys.stdout.write(f"{path}\n")
            return 0
        findings = verify_checkpoint(options.directory)
    except (SchemaError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return getattr(error, "exit_code", 4)
    for finding in findings:
        sys.stdout.write(f"{finding.problem}: {finding.detail}\n")
    sys.stdout.write(f"{options.directory}: {'damaged' if findings else 'sound'}\n")
    return 3 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
