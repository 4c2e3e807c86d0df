"""LAPACK's routine as scipy offers it to Cython: called as its documentation says, or not at all."""

import ctypes

import numpy as np
import pytest
from closeness import assert_close

from pico_analyze.matrices import decompositions

INT, DOUBLE = ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_double)
DESCRIBED = "void (char *, int *, int *, d *, int *, d *, d *, int *, d *, int *, d *, int *, int *, int *)"
ARGUMENTS = {"char *": ctypes.c_char_p, "int *": INT, "d *": DOUBLE}
OURS = ctypes.CFUNCTYPE(None, *(ARGUMENTS[word] for word in DESCRIBED[6:-1].split(", ")))
ROOM = 1234


class Routine:
    """What stands in for dgesdd: it asks for `ROOM` numbers, and finds the singular values 3 and 2."""

    def __init__(self, info=0):
        self.info, self.calls = info, []
        self.pointer = OURS(self._called)

    def _called(self, jobz, m, n, a, lda, s, _u, ldu, _vt, ldvt, work, lwork, _iwork, info):
        sizes = {"m": m[0], "n": n[0], "lda": lda[0], "ldu": ldu[0], "ldvt": ldvt[0], "lwork": lwork[0]}
        self.calls.append(sizes | {"jobz": jobz, "a": a[: m[0] * n[0]]})
        info[0] = 0 if lwork[0] == -1 else self.info
        if lwork[0] == -1:
            work[0] = ROOM
        else:
            s[0], s[1] = 3.0, 2.0


@pytest.fixture
def install(monkeypatch):
    """Puts a routine in the place of dgesdd, with a description of its arguments."""
    new, kept = ctypes.pythonapi.PyCapsule_New, []
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]

    def put(routine, described=DESCRIBED):
        name = described.replace("d *", "__pyx_t_5scipy_6linalg_13cython_lapack_d *").encode()
        kept.extend((name, routine))
        capsule = new(ctypes.cast(routine.pointer, ctypes.c_void_p), name, None)
        monkeypatch.setitem(decompositions.scipy_linalg().cython_lapack.__pyx_capi__, "dgesdd", capsule)
        decompositions._dgesdd.cache_clear()
        return routine

    yield put
    decompositions._dgesdd.cache_clear()


@pytest.mark.parametrize("shape", [(5, 2), (2, 5)])
def test_it_is_asked_for_the_room_that_it_wants_and_then_given_it(install, shape):
    routine, matrix = install(Routine()), np.arange(10.0).reshape(shape)
    assert decompositions.divide_and_conquer(matrix).tolist() == [3.0, 2.0]
    assert [call["lwork"] for call in routine.calls] == [-1, ROOM]
    for call in routine.calls:
        assert call["jobz"] == b"N"  # no vectors
        assert (call["m"], call["n"], call["lda"]) == (*shape, shape[0])
        assert call["a"] == matrix.ravel(order="F").tolist()  # column by column
        assert call["ldu"] >= 1 and call["ldvt"] >= 1  # although there is neither


@pytest.mark.parametrize("info", [1, -4])
def test_what_it_reports_is_an_error_and_the_other_driver_takes_over(install, info):
    install(Routine(info))
    matrix = np.array([[0.0, 5.0], [4.0, 0.0]])
    with pytest.raises(np.linalg.LinAlgError, match=rf"did not converge \(dgesdd: {info}\)"):
        decompositions.divide_and_conquer(matrix)
    assert_close(decompositions.singular_values(matrix), [5.0, 4.0], factor=8)


OTHERS = {
    "another first argument": DESCRIBED.replace("char *", "int *"),
    "a longer integer": DESCRIBED.replace("int *, int *)", "int *, long *)"),
    "longer integers throughout": DESCRIBED.replace("int *", "int64_t *"),
    "single precision": DESCRIBED.replace("d *", "s *"),
    "an argument less": DESCRIBED.replace(", int *)", ")"),
    "an argument more": DESCRIBED.replace(")", ", int *)"),
    "two that change places": DESCRIBED.replace("int *, d *, int *, d *, d *", "int *, int *, d *, d *, d *"),
    "a result": DESCRIBED.replace("void", "int"),
    "an argument by value": DESCRIBED.replace("char *", "char"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_routine_that_is_described_otherwise_is_never_called(install, other):
    assert OTHERS[other] != DESCRIBED
    routine = install(Routine(), OTHERS[other])
    matrix = np.array([[0.0, 5.0], [4.0, 0.0], [0.0, 0.0]])
    assert_close(decompositions.divide_and_conquer(matrix), [5.0, 4.0], factor=8)
    assert routine.calls == []


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (3, 3), (1, 1), (0, 3), (3, 0)])
def test_lapack_has_nothing_to_complain_of(capfd, shape):
    """It writes to the terminal itself where an argument is not as it should be."""
    decompositions._dgesdd.cache_clear()
    matrix = np.random.default_rng(0).standard_normal(shape)
    assert decompositions.divide_and_conquer(matrix).shape == (min(shape),)
    assert decompositions.triangular_factor(matrix).shape == (min(shape), shape[1])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_it_has_as_many_integers_to_work_with_as_its_documentation_demands(monkeypatch, shape):
    """IWORK: 8 * min(M, N). With fewer it would write where other things lie."""
    matrix, given, empty = np.ones(shape), [], np.empty
    decompositions.divide_and_conquer(matrix)  # imports what it needs

    def watched(*arguments, **named):
        given.append(empty(*arguments, **named))
        return given[-1]

    monkeypatch.setattr(decompositions.np, "empty", watched)
    decompositions.divide_and_conquer(matrix)
    assert [array.size for array in given if array.dtype == np.intc] == [8 * 4]
