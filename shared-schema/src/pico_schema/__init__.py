"""The contract between pico-train and pico-analyze: what a checkpoint revision is.

`architecture` (the shape of a model) · `sites` (names of its matrices) · `manifest` (the documents) · `layout` (every
path and revision name) · `revisions` (the index of what is published) ·
`suites` (families of runs) · `migrations` (the version gate) ·
`documents` (read, write, verify) · `tensor_header` (what a safetensors file holds) · `files` (replacing a file whole) ·
`digests` · `strict_json` (JSON that means one thing) · `yaml_text` (YAML that people write; needs the extra `yaml`) ·
`results` (flat evaluation results) · `evaluated` (those of models of other makers) ·
`run_names` (steps and addresses of runs, as they are written) · `errors`.
"""

from pico_schema import (
    digests,
    documents,
    evaluated,
    files,
    layout,
    results,
    run_names,
    sites,
    strict_json,
    tensor_header,
)
from pico_schema.architecture import ForeignSpec, ModelSpec
from pico_schema.documents import Finding, read_checkpoint, read_run, verify_checkpoint
from pico_schema.errors import (
    AddressError,
    DocumentError,
    IncompleteError,
    SchemaError,
    SchemaVersionError,
    SiteError,
    TensorHeaderError,
    UnsafePathError,
    YamlError,
)
from pico_schema.manifest import (
    SCHEMA_VERSION,
    Capture,
    CheckpointEntry,
    CheckpointManifest,
    ConfigChange,
    DataCursor,
    DataFingerprint,
    Evaluation,
    FileEntry,
    Membership,
    Origin,
    Parent,
    Producer,
    RunManifest,
    ValidationRows,
    WeightSlice,
)
from pico_schema.revisions import Revision, RevisionIndex, SetAsideRevision
from pico_schema.sites import Site
from pico_schema.suites import SuiteChange, SuiteManifest, SuiteMember
from pico_schema.version import __version__

__all__ = [
    "SCHEMA_VERSION",
    "AddressError",
    "Capture",
    "CheckpointEntry",
    "CheckpointManifest",
    "ConfigChange",
    "DataCursor",
    "DataFingerprint",
    "DocumentError",
    "Evaluation",
    "FileEntry",
    "Finding",
    "ForeignSpec",
    "IncompleteError",
    "Membership",
    "ModelSpec",
    "Origin",
    "Parent",
    "Producer",
    "Revision",
    "RevisionIndex",
    "RunManifest",
    "SchemaError",
    "SchemaVersionError",
    "SetAsideRevision",
    "Site",
    "SiteError",
    "SuiteChange",
    "SuiteManifest",
    "SuiteMember",
    "TensorHeaderError",
    "UnsafePathError",
    "ValidationRows",
    "WeightSlice",
    "YamlError",
    "__version__",
    "digests",
    "documents",
    "evaluated",
    "files",
    "layout",
    "read_checkpoint",
    "read_run",
    "results",
    "run_names",
    "sites",
    "strict_json",
    "tensor_header",
    "verify_checkpoint",
]
