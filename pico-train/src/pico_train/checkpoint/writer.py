"""The writer: seals checkpoints in the background, at most one at a time.

Order of a save, each step durable before the next: the files in a temporary directory, its sub-directories,
manifest.json, the temporary directory, the lines of the metrics log; then one rename makes the checkpoint appear,
whole; then the parent directory, and the run's index. A failure leaves everything that was sealed before as it was,
removes what was begun, and is raised at the next `submit` or `wait`. A step that was set aside and that the run
arrives at again, bit for bit, is taken back instead of written.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pico_schema import CheckpointManifest, FileEntry, documents, layout
from pico_schema.digests import sha256_file
from pico_train.checkpoint import resume, set_aside
from pico_train.checkpoint.contents import CheckpointContents
from pico_train.checkpoint.metrics_log import MetricsLog
from pico_train.checkpoint.resume import damage, digests, index_entry
from pico_train.checkpoint.retention import prune
from pico_train.checkpoint.storage import BUFFER, Disk, HashedFile, replace_file, write_file
from pico_train.checkpoint.tensorfile import safetensors_chunks
from pico_train.config import KeepPolicy
from pico_train.errors import NonFiniteError, StorageError

STATE_FILE = f"{layout.TRAINING_STATE}/state.ckpt"
"""The training state where it is one file; `fabric.load` reads it."""

TEMPORARY = ".tmp-"
"""How the name of a checkpoint that is being written begins."""


class CheckpointWriter:
    """Writes contents as sealed checkpoints of one run, in a thread of its own.

    Args:
        run_dir: The run's directory; `run.json` must be there.
        keep: Which training states stay.
        metrics_log: Synced before each seal.
        on_sealed: Called in the background with the step and the directory of each checkpoint once it is in the index;
            also where the step was sealed before, since a crash may have come between the seal and the call.
        protected: Steps whose training state is not to be removed yet (they are being published).
        primary: False on the ranks other than 0, which only take part in a sharded training state.
        disk: Where to write.
        buffer: Bytes per write.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        keep: KeepPolicy | None = None,
        metrics_log: MetricsLog | None = None,
        on_sealed: Callable[[int, Path], None] | None = None,
        protected: Callable[[], set[int]] | None = None,
        primary: bool = True,
        disk: Disk | None = None,
        buffer: int = BUFFER,
    ) -> None:
        self.run_dir = run_dir
        self.waited = 0.0
        """Seconds that `submit` and `wait` have spent waiting for a save to end."""
        self.sealed: list[int] = []
        """Steps sealed by this writer."""
        self._keep = keep or KeepPolicy()
        self._metrics_log = metrics_log
        self._on_sealed = on_sealed
        self._protected = protected
        self._primary = primary
        self._disk = disk or Disk()
        self._buffer = buffer
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def submit(self, contents: CheckpointContents) -> None:
        """Save `contents` in the background; waits only while an earlier save has not ended.

        Raises:
            StorageError: an earlier save failed.
            NonFiniteError: what an earlier save was given holds a NaN or an infinity.
        """
        self.wait()
        if not self._primary and not callable(contents.training_state):
            return
        self._thread = threading.Thread(target=self._run, args=(contents,), name=f"checkpoint-{contents.step}")
        self._thread.start()

    def wait(self) -> None:
        """Return when nothing is being saved any more.

        Raises:
            StorageError: a save failed. It is raised once.
            NonFiniteError: what was to be saved holds a NaN or an infinity. It is raised once.
        """
        started = time.perf_counter()
        if self._thread is not None:
            self._thread.join()
        self.waited += time.perf_counter() - started
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def save(self, contents: CheckpointContents) -> None:
        """Save `contents` and return when it is sealed."""
        self.submit(contents)
        self.wait()

    @property
    def busy(self) -> bool:
        """Whether a save is going on."""
        return self._thread is not None and self._thread.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what was begun. While an exception passes through, a failed save is a warning beside it."""
        try:
            self.wait()
        except Exception as failure:
            if error is None:
                raise
            warnings.warn(f"besides, {failure}", RuntimeWarning, stacklevel=2)

    def _run(self, contents: CheckpointContents) -> None:
        try:
            self._save(contents)
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            failure = StorageError(
                f"the checkpoint of step {contents.step} could not be saved in {self.run_dir}: "
                f"{error.strerror or error}{where}; earlier checkpoints are intact: mend the storage, then resume"
            )
            failure.__cause__ = error
            self._error = failure
        except BaseException as error:
            self._error = error

    def _save(self, contents: CheckpointContents) -> None:
        root = self.run_dir / layout.CHECKPOINTS
        temporary = root / f"{TEMPORARY}{layout.step_dir(contents.step)}"
        if not self._primary:
            assert callable(contents.training_state)
            contents.training_state(None)
            return
        if contents.nonfinite is not None:
            if callable(contents.training_state):
                contents.training_state(None)
            raise NonFiniteError(f"{contents.nonfinite} is not finite at step {contents.step}: nothing was saved")
        target = root / layout.step_dir(contents.step)
        if self._is_sealed(target, contents):
            if callable(contents.training_state):
                contents.training_state(None)
            self._announce(contents.step, target)
            return
        self._disk.remove(temporary)
        try:
            shards = self._write_shards(temporary, contents)
            manifest = self._write_files(temporary, contents, shards)
            self._write(temporary / layout.MANIFEST, [documents.dump(manifest)])
            self._disk.fsync_directory(temporary)
            if self._metrics_log is not None:
                self._metrics_log.sync()
            self._disk.rename(temporary, target)
        except BaseException:
            self._remove_quietly(temporary)
            raise
        self._disk.fsync_directory(root)
        self._add_to_index(target, manifest)
        self.sealed.append(contents.step)
        prune(self.run_dir, self._keep, disk=self._disk, protected=self._protected() if self._protected else set())
        self._announce(contents.step, target)

    def _announce(self, step: int, directory: Path) -> None:
        if self._on_sealed is not None:
            self._on_sealed(step, directory)

    def _write_shards(self, directory: Path, contents: CheckpointContents) -> dict[str, FileEntry]:
        """Create the temporary directory, and in it the training state where it is sharded.

        That comes first: the other processes are waiting for it, and are told if there will be none.
        """
        path: Path | None = directory / layout.TRAINING_STATE
        try:
            self._disk.make_directory(directory)
            if callable(contents.training_state):
                self._disk.make_directory(directory / layout.TRAINING_STATE)
        except OSError:
            path = None
            raise
        finally:
            if callable(contents.training_state):
                contents.training_state(path)
        return _entries(directory, layout.TRAINING_STATE) if callable(contents.training_state) else {}

    def _write_files(
        self, directory: Path, contents: CheckpointContents, shards: Mapping[str, FileEntry]
    ) -> CheckpointManifest:
        """All files but the manifest, durable together with the directories they are in."""
        disk, files = self._disk, dict(shards)
        folders = []
        if contents.training_state is not None:
            folders.append(layout.TRAINING_STATE)
        if contents.captures or contents.batch is not None:
            folders.append(layout.CAPTURES)
        for folder in folders:
            if not (directory / folder).exists():
                disk.make_directory(directory / folder)
        if contents.training_state is not None and not callable(contents.training_state):
            files[STATE_FILE] = self._write_state(directory / STATE_FILE, contents.training_state)
        for name, content in contents.hf_files.items():
            files[name] = self._write(directory / name, [content])
        files[layout.WEIGHTS] = self._write(
            directory / layout.WEIGHTS, safetensors_chunks(contents.weights, {"format": "pt"})
        )
        for item in contents.captures:
            metadata = {"format": "pt", **item.metadata}
            files[item.capture.file] = self._write(
                directory / item.capture.file, safetensors_chunks(item.tensors, metadata)
            )
        if contents.batch is not None:
            files[layout.TRAIN_BATCH] = self._write(directory / layout.TRAIN_BATCH, [contents.batch.parquet()])
        for folder in folders:
            disk.fsync_directory(directory / folder)
        return CheckpointManifest(
            **contents.manifest,
            step=contents.step,
            captures=tuple(item.capture for item in contents.captures),
            weights_sha256=files[layout.WEIGHTS].sha256,
            files=dict(sorted(files.items())),
        )

    def _write(self, path: Path, chunks: Any) -> FileEntry:
        return write_file(self._disk, path, chunks, buffer=self._buffer)

    def _write_state(self, path: Path, state: Mapping[str, Any]) -> FileEntry:
        """What `fabric.save` would put there, but without its copy in memory, synced, and no error swallowed."""
        import torch

        file = HashedFile(self._disk, path, buffer=self._buffer)
        try:
            torch.save(dict(state), file)  # type: ignore[arg-type]
            return file.seal()
        except RuntimeError as error:
            # torch's zip writer reports a failed write as a RuntimeError; the cause is what a user can act on
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        finally:
            file.close()

    def _add_to_index(self, directory: Path, manifest: CheckpointManifest) -> None:
        run = documents.read_run(self.run_dir).with_checkpoint(index_entry(directory, manifest))
        replace_file(self._disk, self.run_dir / layout.RUN_MANIFEST, documents.dump(run))

    def _is_sealed(self, target: Path, contents: CheckpointContents) -> bool:
        """Whether the step is sealed already, by this run or, before it resumed, with the very same content.

        What stands in its place otherwise (damaged, or with other weights) is set aside.
        """
        if target.exists():
            listed = digests(self.run_dir)
            wrong = damage(target, manifest_sha256=listed.get(contents.step))
            if not wrong and resume.holds_weights(target, contents):
                if contents.step not in listed:
                    self._add_to_index(target, documents.read_checkpoint(target))
                set_aside.take_back_evaluation(self.run_dir, target, disk=self._disk)
                return True
            why = f"is damaged ({wrong[0].detail})" if wrong else "has other weights than the run arrives at"
            reason = f"step {contents.step} {why}"
            moved = set_aside.put_step_aside(
                self.run_dir, contents.step, reason=reason, damaged=bool(wrong), disk=self._disk
            )
            warnings.warn(f"{target} {why}: moved to {moved.folder} and written anew", RuntimeWarning, stacklevel=2)
        for copy, digest in set_aside.copies(self.run_dir, contents.step):
            if not damage(copy, manifest_sha256=digest) and resume.holds(copy, contents):
                set_aside.take_back(self.run_dir, copy, disk=self._disk)
                self._add_to_index(target, documents.read_checkpoint(target))
                return True
        return False

    def _remove_quietly(self, path: Path) -> None:
        try:
            self._disk.remove(path)
        except OSError as error:
            warnings.warn(f"{path} could not be removed: {error}", RuntimeWarning, stacklevel=2)


def _entries(directory: Path, folder: str) -> dict[str, FileEntry]:
    """Size and digest of the files that a sharded save wrote."""
    found = sorted(path for path in (directory / folder).rglob("*") if path.is_file())
    return {
        path.relative_to(directory).as_posix(): FileEntry(size=path.stat().st_size, sha256=sha256_file(path))
        for path in found
    }
