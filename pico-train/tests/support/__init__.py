"""What several tests are made of: small runs and corpora, processes, disks that fail. Imported as `support.…`."""

from pathlib import Path

PROGRAMS = Path(__file__).parent
"""Where the programs lie that tests run as processes of their own."""
