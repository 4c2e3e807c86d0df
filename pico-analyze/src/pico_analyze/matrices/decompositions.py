"""Decompositions in float64 that do not give up: singular values, thin SVD, triangular root.

Other threads of Python run while LAPACK works. numpy keeps the interpreter's lock below 500 columns, and scipy's
wrapper of dgesdd always: two threads would wait for each other at the widths of small models. That routine is taken
from what scipy ships for Cython (`scipy.linalg.cython_lapack`, a public interface), and ctypes lets go of the lock
while it runs; scipy's wrapper of dgeqrf does so by itself. scipy is imported when it is needed: elementwise metrics do
without, and start a sixth of a second earlier.
"""

from __future__ import annotations

import ctypes
import re
from functools import cache
from threading import Lock
from typing import Any

import numpy as np

_BLOCK_ELEMENTS = 2**22
"""Elements of one block of rows: 32 MiB in float64."""


_IMPORTING = Lock()


def scipy_linalg() -> Any:
    """scipy.linalg with the parts used here, imported by one thread at a time.

    Two threads that begin to import different parts of it at once would wait for each other: Python ends that with an
    error.
    """
    with _IMPORTING:
        import scipy.linalg
        import scipy.linalg.cython_lapack
        import scipy.linalg.lapack

        return scipy.linalg


def singular_values(matrix: np.ndarray) -> np.ndarray:
    """Singular values, descending, in float64; min(N, P) of them.

    LAPACK's divide-and-conquer SVD, and its slower QR iteration should that one not converge. A matrix that is at
    least twice as long one way as the other is first reduced to its triangular factor, block by block, so that no
    float64 copy of all of it is made.
    """
    core = _triangular_core(matrix)
    try:
        return divide_and_conquer(core)
    except np.linalg.LinAlgError:
        return np.asarray(_by_qr_iteration(core, vectors=False))


def thin_svd(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U (N, m), s (m,) descending, Vᵀ (m, P), with m = min(N, P), of a finite matrix."""
    try:
        u, s, v = np.linalg.svd(matrix, full_matrices=False)
    except np.linalg.LinAlgError:
        u, s, v = _by_qr_iteration(matrix, vectors=True)
    return u, s, v


def _by_qr_iteration(matrix: np.ndarray, *, vectors: bool) -> Any:
    """The slower driver, which converges where divide and conquer did not."""
    return scipy_linalg().svd(
        matrix, full_matrices=False, compute_uv=vectors, check_finite=False, lapack_driver="gesvd"
    )


def triangular_root(matrix: np.ndarray) -> np.ndarray:
    """R (≤P, P) upper triangular with RᵀR = XᵀX, by QR (no squaring of the condition number), float64."""
    n_rows, n_cols = matrix.shape
    step = max(4 * n_cols, _BLOCK_ELEMENTS // max(1, n_cols))
    root = triangular_factor(matrix[:step])
    for start in range(step, n_rows, step):
        root = triangular_factor(np.concatenate([root, matrix[start : start + step]]))
    return root


def _triangular_core(matrix: np.ndarray) -> np.ndarray:
    tall = max(matrix, matrix.T, key=len)
    if len(tall) >= 2 * min(matrix.shape):
        return triangular_root(tall)
    return tall.astype(np.float64)


_INT = ctypes.POINTER(ctypes.c_int)
_DOUBLE = ctypes.POINTER(ctypes.c_double)
_SIGNATURE = (
    ctypes.c_char_p,
    _INT,
    _INT,
    _DOUBLE,
    _INT,
    _DOUBLE,
    _DOUBLE,
    _INT,
    _DOUBLE,
    _INT,
    _DOUBLE,
    _INT,
    _INT,
    _INT,
)
"""jobz, m, n, a, lda, s, u, ldu, vt, ldvt, work, lwork, iwork, info."""
_POINTERS = {ctypes.c_char_p: r"char \*", _INT: r"int \*", _DOUBLE: r"\w+_d \*"}
_AS_WRITTEN = re.compile(r"void \(" + ", ".join(_POINTERS[kind] for kind in _SIGNATURE) + r"\)")
"""The same as Cython writes it: its own name for double, which is longer, ends in `_d`."""


@cache
def _dgesdd() -> Any | None:
    """The routine, or None where scipy's has other types of arguments."""
    capsule = scipy_linalg().cython_lapack.__pyx_capi__["dgesdd"]
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    name = api.PyCapsule_GetName(capsule)
    if not _AS_WRITTEN.fullmatch(name.decode()):
        return None
    return ctypes.CFUNCTYPE(None, *_SIGNATURE)(api.PyCapsule_GetPointer(capsule, name))


def divide_and_conquer(matrix: np.ndarray) -> np.ndarray:
    """Singular values of a finite float64 matrix, descending, by divide and conquer (dgesdd).

    Raises:
        LinAlgError: it did not converge.
    """
    routine = _dgesdd()
    if routine is None:
        return np.asarray(np.linalg.svd(matrix, compute_uv=False))
    a = np.array(matrix, dtype=np.float64, order="F")  # overwritten
    m, n = a.shape
    short = min(m, n)
    if short == 0:
        return np.zeros(0)
    s, integers = np.empty(short), np.empty(8 * short, np.intc)
    none, wanted, info = ctypes.c_double(), ctypes.c_double(), ctypes.c_int()

    def call(work: Any, size: int) -> None:
        routine(
            b"N", _int(m), _int(n), _doubles(a), _int(m), _doubles(s), none, _int(m), none, _int(n),
            work, _int(size), integers.ctypes.data_as(_INT), info,
        )  # fmt: skip

    call(wanted, -1)  # asks how much room it wants
    room = int(wanted.value)
    call(_doubles(np.empty(room)), room)
    if info.value != 0:
        raise np.linalg.LinAlgError(f"SVD did not converge (dgesdd: {info.value})")
    return s


def triangular_factor(matrix: np.ndarray) -> np.ndarray:
    """R (min(m, n), n) of the QR decomposition of an (m, n) float64 matrix, by Householder reflections (dgeqrf)."""
    m, n = matrix.shape
    if min(m, n) == 0:
        return np.zeros((0, n))
    factored, *_ = scipy_linalg().lapack.dgeqrf(np.array(matrix, dtype=np.float64, order="F"), 64 * n, True)
    return np.asarray(np.triu(factored[: min(m, n)]))


def _int(value: int) -> Any:
    return ctypes.byref(ctypes.c_int(value))


def _doubles(array: np.ndarray) -> Any:
    return array.ctypes.data_as(_DOUBLE)
