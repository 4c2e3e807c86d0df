"""What can go wrong with a document or a revision.

    SchemaError
    ├── DocumentError            a document is not what its kind requires (a field, its type, not JSON, too large)
    │   ├── UnsafePathError      a path in a manifest would leave its directory
    │   └── SchemaVersionError   written by a newer major version than this one reads
    ├── SiteError                not the name of a site
    ├── AddressError             not the address of a run on the Hub
    ├── YamlError                a YAML text that a person wrote is not YAML 1.2, or beyond its bounds
    ├── TensorHeaderError        a safetensors file whose header is damaged, hostile or none at all
    └── IncompleteError          no manifest: whatever is here is not a finished checkpoint

Each class carries the exit code that a command should end with: 3, data or checkpoint unusable; 2 for an address and
for YAML, which a person wrote.
"""


class SchemaError(Exception):
    """Base of all errors of this package."""

    exit_code = 3


class DocumentError(SchemaError):
    """A document is missing, unreadable, or not what its kind requires."""


class UnsafePathError(DocumentError):
    """A path in a document is absolute, climbs out, or collides with another one."""


class SchemaVersionError(DocumentError):
    """A document of a newer major schema version: this package cannot know what it means."""


class SiteError(SchemaError, ValueError):
    """A text that is not the canonical name of a site."""


class AddressError(SchemaError, ValueError):
    """A text that is not the address of a run on the Hub."""

    exit_code = 2


class YamlError(SchemaError):
    """A YAML text that cannot be read, is not YAML 1.2, says something twice, or exceeds a bound."""

    exit_code = 2


class TensorHeaderError(SchemaError):
    """A safetensors file whose header is not one, or claims more than the file holds or the bounds allow."""


class IncompleteError(SchemaError):
    """A directory without a manifest: a checkpoint that was never finished, or something else."""
