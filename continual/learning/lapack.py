"""Cholesky factors, triangular solutions and sums of products that leave other threads running: SciPy's own do not.

Each runs on the thread that asks. Several matrices at once, one thread each, are done sooner than one after the other
with all threads on each: threads that share a factorisation wait for each other at every step of it, and where other
programs want the processor too, the one that is interrupted keeps all of them waiting.
"""

import ctypes
import importlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["add_products", "factored", "on_each", "one_thread_each", "solved", "solved_half"]

_Matrix = NDArray[np.floating[Any]]
_Part = TypeVar("_Part")
_Made = TypeVar("_Made")
_LETTERS = {np.dtype(np.float32): "s", np.dtype(np.float64): "d"}
_LOWER, _UPPER, _PLAIN, _TURNED, _NOT_UNIT = b"L", b"U", b"N", b"T", b"N"  # of Fortran's order
_LAPACK, _BLAS = "cython_lapack", "cython_blas"
_threads: ContextVar[int | None] = ContextVar("threads", default=None)  # that `on_each` may use; None: nobody limits


def add_products(rows: NDArray[np.float64], onto: NDArray[np.float64], sign: float = 1.0) -> None:
    """Add the rows' outer products (n, n) to the lower triangle of `onto`, where they lie; the upper one stays.

    A product of its own beside the sums would be new memory of their size for each batch of rows, which takes longer
    than the arithmetic.

    Args:
        rows: (rows, n), in C's order.
        onto: (n, n), in C's order.
        sign: what the products are multiplied by.

    >>> sums = np.zeros((2, 2))
    >>> add_products(np.array([[1.0, 2.0], [0.0, 1.0]]), sums)
    >>> sums.tolist()
    [[1.0, 0.0], [2.0, 5.0]]
    """
    number, size = _int(rows.shape[0]), _int(rows.shape[1])
    if not rows.size:
        return
    _routine("syrk", onto, _BLAS)(
        *(_UPPER, _PLAIN, size, number, ctypes.byref(ctypes.c_double(sign)), _address(rows.T), size),
        *(ctypes.byref(ctypes.c_double(1.0)), _address(onto.T), size),
    )


def factored(matrix: _Matrix) -> _Matrix:
    """The lower Cholesky factor of a symmetric matrix, in its place; what stands above the diagonal means nothing.

    Args:
        matrix: its lower triangle in Fortran's order.

    Raises:
        numpy.linalg.LinAlgError: it is not positive definite in its precision.

    >>> np.tril(factored(np.asfortranarray([[4.0, 0.0], [2.0, 2.0]]))).tolist()
    [[2.0, 0.0], [1.0, 1.0]]
    """
    info, size = ctypes.c_int(0), _int(len(matrix))
    _routine("potrf", matrix)(_LOWER, size, _address(matrix), size, ctypes.byref(info))
    if info.value:
        raise np.linalg.LinAlgError(f"the leading {info.value} rows are not positive definite")
    return matrix


def solved(factor: _Matrix, towards: _Matrix) -> _Matrix:
    """The solution (D, C) of the equations with this lower factor; `towards`, in Fortran's order, is used up."""
    info, size = ctypes.c_int(0), _int(len(factor))
    _routine("potrs", factor)(
        *(_LOWER, size, _int(towards.shape[1]), _address(factor), size),
        *(_address(towards), size, ctypes.byref(info)),
    )
    return towards


def solved_half(factor: _Matrix, towards: _Matrix, *, turned: bool = False) -> _Matrix:
    """The solution with the lower factor alone, or with it `turned`; `towards`, in Fortran's order, is used up."""
    info, size = ctypes.c_int(0), _int(len(factor))
    _routine("trtrs", factor)(
        *(_LOWER, _TURNED if turned else _PLAIN, _NOT_UNIT, size, _int(towards.shape[1]), _address(factor), size),
        *(_address(towards), size, ctypes.byref(info)),
    )
    return towards


def on_each(work: Callable[[_Part], _Made], parts: Sequence[_Part]) -> list[_Made]:
    """What `work` makes of each part, in order, on as many threads as this process may use for its arithmetic.

    Whatever number that is, each part is worked out by one thread, so that the results are the same to the last bit.

    >>> on_each(abs, [-1, 2, -3])
    [1, 2, 3]
    """
    with one_thread_each() as threads:
        if threads == 1 or len(parts) == 1:
            return [work(part) for part in parts]
        with ThreadPoolExecutor(min(threads, len(parts)), thread_name_prefix="algebra") as pool:
            return list(pool.map(work, parts))


@contextmanager
def one_thread_each() -> Iterator[int]:
    """One thread for each product inside; gives how many `on_each` may still use, as many as it was before.

    Many small products are done sooner so: threads that share one wait for each other longer than it takes.
    """
    if (most := _threads.get()) is not None:
        yield most
        return
    controller = _controller()
    most = max((library["num_threads"] for library in controller.info()), default=1)
    token = _threads.set(most)
    try:
        with controller.limit(limits=1):
            yield most
    finally:
        _threads.reset(token)


@cache
def _controller() -> Any:
    import scipy.linalg  # noqa: F401 - the controller knows the libraries that are loaded when it is made
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController().select(user_api="blas")


@cache
def _pointer(library: str, name: str) -> int:
    capsule = importlib.import_module(f"scipy.linalg.{library}").__pyx_capi__[name]
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    return int(api.PyCapsule_GetPointer(capsule, api.PyCapsule_GetName(capsule)))


def _routine(name: str, like: _Matrix, library: str = _LAPACK) -> Callable[..., None]:
    """SciPy's LAPACK or BLAS by address: ctypes lets other threads run meanwhile."""
    call: Callable[..., None] = ctypes.CFUNCTYPE(None)(_pointer(library, _LETTERS[like.dtype] + name))
    return call


def _int(value: int) -> Any:
    return ctypes.byref(ctypes.c_int(value))


def _address(matrix: _Matrix) -> Any:
    if not matrix.flags.f_contiguous or not matrix.flags.writeable:
        raise ValueError(f"a matrix {matrix.shape} with strides {matrix.strides} is not in Fortran's order")
    return ctypes.c_void_p(matrix.ctypes.data)
