"""What the members that are trained beside each other share: the GPUs of this machine, or its cores."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping

from pico_train.counting import counted
from pico_train.errors import ConfigError

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_OF_LAUNCHERS = ("SLURM_", "TORCHELASTIC_", "PMI_", "PMIX_", "OMPI_")
_OF_RANKS = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK"),
    *("ROLE_WORLD_SIZE", "ROLE_NAME", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"),
)


def gpus(environment: Mapping[str, str] | None = None) -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; torch is not imported."""
    environment = os.environ if environment is None else environment
    if _VISIBLE in environment:
        return [name.strip() for name in environment[_VISIBLE].split(",") if name.strip() and name.strip() != "-1"]
    program = shutil.which("nvidia-smi", path=environment.get("PATH"))
    if program is None:
        return []
    try:
        asked = [program, "--query-gpu=index", "--format=csv,noheader"]
        found = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in found.stdout.splitlines() if line.strip().isdigit()]


def cores() -> int:
    """The cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only on Linux
        return os.cpu_count() or 1


def places(parallel: int, *, on_cpu: bool) -> list[dict[str, str]]:
    """What the environment of each of so many processes says of its devices, beside what it has.

    Args:
        parallel: How many members are trained at a time.
        on_cpu: Whether they are to train on the CPU, whatever else there is.

    Raises:
        ConfigError: more members at a time than GPUs.
    """
    if parallel == 1:
        return [{}]
    found = [] if on_cpu else gpus()
    if found:
        if parallel > len(found):
            raise ConfigError(
                f"--parallel {parallel}: there {'is' if len(found) == 1 else 'are'} {counted(len(found), 'GPU')} here, "
                f"and each member needs one: at most --parallel {len(found)}"
            )
        each = len(found) // parallel
        return [{_VISIBLE: ",".join(found[n * each : (n + 1) * each])} for n in range(parallel)]
    if any(name in os.environ for name in _THREADS):
        return [{} for _ in range(parallel)]  # somebody has decided it
    return [{name: str(max(1, cores() // parallel)) for name in _THREADS} for _ in range(parallel)]


def own_environment() -> dict[str, str]:
    """The environment of a member's process: as it is, without what tells it to be one rank of a launcher's job."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_OF_LAUNCHERS) and name not in _OF_RANKS
    }
