"""The public surface: what others may import, with its signatures. A change here is a change of the contract."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from types import ModuleType

import pytest

import pico_schema

SURFACE = {
    "AddressError", "Capture", "CheckpointEntry", "CheckpointManifest", "ConfigChange", "DataCursor",
    "DataFingerprint", "DocumentError", "Evaluation", "FileEntry", "Finding", "ForeignSpec", "IncompleteError",
    "Membership", "ModelSpec", "Origin", "Parent", "Producer", "Revision", "RevisionIndex", "RunManifest",
    "SCHEMA_VERSION", "SchemaError", "SchemaVersionError", "SetAsideRevision", "Site", "SiteError", "SuiteChange",
    "SuiteManifest", "SuiteMember", "TensorHeaderError", "UnsafePathError", "ValidationRows", "WeightSlice",
    "YamlError", "__version__", "digests", "documents", "evaluated", "files", "layout", "read_checkpoint", "read_run",
    "results", "run_names", "sites", "strict_json", "tensor_header", "verify_checkpoint",
}  # fmt: skip

FUNCTIONS = {
    "run_names": [
        "parse_address(text: str) -> HubAddress",
        "parse_step(text: str) -> Step | None",
        "split_step(text: str) -> tuple[str, Step | None]",
    ],
    "digests": [
        "git_blob_id(content: bytes) -> str",
        "samples_sha256(rows: bytes | bytearray | memoryview, shape: tuple[int, int], positions: Sequence[int]) -> str",
        "sha256_file(path: Path) -> str",
    ],
    "documents": [
        "checkpoint_dirs(run: Path) -> Iterator[tuple[int, Path]]",
        "dump(document: BaseModel) -> bytes",
        "parse(content: bytes, model: type[D], *, where: str) -> D",
        "read(path: Path, model: type[D]) -> D",
        "read_checkpoint(directory: Path) -> CheckpointManifest",
        "read_run(run: Path) -> RunManifest",
        "verify_checkpoint(directory: Path, manifest: CheckpointManifest | None = None, *, "
        "progress: Callable[[str], None] | None = None) -> list[Finding]",
        "write(path: Path, document: BaseModel) -> None",
    ],
    "files": [
        "discard_unfinished() -> None",
        "discard_with_process(path: Path) -> None",
        "fsync_directory(path: Path) -> None",
        "open_regular(path: Path) -> FileIO",
        "open_replacement(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]",
        "read_regular(path: Path, most: int = -1) -> bytes",
        "replace_file(path: Path, content: bytes | bytearray | memoryview | str, *, durable: bool = True) -> None",
        "replacement(path: Path, *, durable: bool = True) -> Iterator[Path]",
    ],
    "layout": [
        "activation_tensor(site: object) -> str",
        "branch_name(run_name: str) -> str",
        "noise_tensor(name: object) -> str",
        "captures_file(split: str) -> str",
        "check_paths(paths: Iterable[str]) -> None",
        "check_run_name(name: str) -> str",
        "check_step(step: int) -> int",
        "checkpoint_dir(step: int) -> str",
        "evaluation_file(step: int) -> str",
        "gradient_tensor(site: object) -> str",
        "inside(root: Path, path: str) -> Path",
        "parse_step_dir(name: str) -> int | None",
        "parse_tag(tag: str) -> tuple[str, int] | None",
        "safe_relative_path(path: str) -> PurePosixPath",
        "step_dir(step: int) -> str",
        "tag_name(run_name: str, step: int) -> str",
    ],
    "evaluated": [
        "folder_name(place: str) -> str",
        "is_of_model(name: str) -> bool",
        "model_digest(files: Mapping[str, str]) -> str",
        "series_id(place: str) -> str",
    ],
    "results": ["flat_results(results: Mapping[str, Any]) -> dict[str, float]"],
    "sites": [
        "block_name(layer: int) -> str",
        "parse_block(name: str) -> int | None",
        "check_kind(kind: str) -> str",
        "expand(kinds: Iterable[str], n_layers: int) -> list[Site]",
        "llama_module(site: Site) -> str",
        "llama_parameter(site: Site) -> str",
    ],
    "strict_json": ["parse(content: bytes | bytearray | memoryview, *, own: bool = True) -> Any"],
    "tensor_header": [
        "read_file_header(path: Path, *, max_header: int = 104857600) -> TensorHeader",
        "read_header(read: ReadRange, size: int, *, where: str, max_header: int = 104857600) -> TensorHeader",
    ],
    "yaml_text": [
        "dump(value: Any) -> str",
        "parse(text: bytes | str, *, where: str) -> Document",
        "parse_value(text: str, *, where: str) -> Any",
        "read(path: Path) -> Document",
    ],
}

METHODS = {
    "activation_width(self, kind: str) -> int",
    "flops_per_token(self, seq_len: int) -> float",
    "weight_shape(self, kind: str) -> tuple[int, ...]",
}

CONSTANTS = {
    "layout": [
        "CAPTURES", "CARD", "CHECKPOINTS", "EVALUATIONS", "GENERATION_CONFIG", "MANIFEST", "MAX_STEP", "METRICS_LOG",
        "MODEL_CONFIG", "REVISIONS", "RUN_CONFIG", "RUN_MANIFEST", "RUN_NAME", "SET_ASIDE", "SET_ASIDE_NOTE",
        "SUITE_MANIFEST", "TOKENIZER", "TOKENIZER_CONFIG", "TRAINING_STATE", "TRAIN_BATCH", "VALIDATION_COLUMNS",
        "VALIDATION_ROWS", "WEIGHTS",
    ],
    "sites": ["GLOBAL_KINDS", "INPUT_OF", "KINDS", "LAYER_KINDS", "WEIGHTED_KINDS", "WHOLE_MODEL", "WITHOUT_WEIGHT"],
    "tensor_header": ["DTYPE_SIZES", "FIRST_READ", "MAX_DIMENSIONS", "MAX_HEADER", "MAX_NAME", "MAX_TENSORS"],
    "yaml_text": ["MAX_BYTES", "MAX_DEPTH", "MAX_EXPANDED", "MAX_KEY"],
}  # fmt: skip


def module(name: str) -> ModuleType:
    return importlib.import_module(f"pico_schema.{name}")


def test_the_surface_is_this() -> None:
    assert set(pico_schema.__all__) == SURFACE
    assert all(hasattr(pico_schema, name) for name in SURFACE)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_these_names_and_signatures(name: str) -> None:
    # Signatures are compared as they are written; annotations are texts (from __future__ import annotations).
    own = {
        key + str(inspect.signature(value)).replace("'", "").replace('"', "")
        for key, value in vars(module(name)).items()
        if inspect.isfunction(value) and value.__module__ == f"pico_schema.{name}" and not key.startswith("_")
    }
    assert own == set(FUNCTIONS[name])


def test_the_geometry_has_these_methods() -> None:
    own = {
        key + str(inspect.signature(value)).replace("'", "")
        for key, value in vars(pico_schema.ModelSpec).items()
        if inspect.isfunction(value) and not key.startswith("_")
    }
    assert own == METHODS


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_have_these_names(name: str) -> None:
    assert sorted(key for key in vars(module(name)) if key.isupper() and not key.startswith("_")) == CONSTANTS[name]


def test_it_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, pico_schema; print([name for name in ('torch', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
