"""Named arrays: many names, one row of numbers, the same memory."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npvae.core.parameters import NamedArrays

SHAPES = {"W": (2, 3), "b": (3,), "scale": ()}


@pytest.fixture
def arrays() -> NamedArrays:
    """Zeros, as they are to begin with."""
    return NamedArrays(SHAPES, float)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_names_and_flat_are_the_same_memory_and_begin_with_zeros(dtype: Any) -> None:
    arrays = NamedArrays(SHAPES, dtype)
    assert arrays.shapes == SHAPES
    assert arrays.flat.shape == (10,)
    assert not arrays.flat.any()
    assert all(array.dtype == dtype for array in (arrays.flat, *arrays.values()))
    arrays.flat[:] = range(10)
    np.testing.assert_array_equal(arrays["W"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(arrays["b"], [6, 7, 8])
    assert arrays["scale"] == 9
    arrays["b"][1] = 50
    assert arrays.flat[7] == 50
    assert NamedArrays({}, dtype).flat.shape == (0,)


def test_assigning_writes_into_the_buffer(arrays: NamedArrays) -> None:
    same, view = arrays, arrays["W"]
    arrays["W"] = [[1, 2, 3], [4, 5, 6]]
    arrays["b"] = 7
    np.testing.assert_array_equal(arrays.flat, [1, 2, 3, 4, 5, 6, 7, 7, 7, 0])
    arrays["W"] *= 2
    np.testing.assert_array_equal(arrays.flat[:6], [2, 4, 6, 8, 10, 12])
    arrays |= {"b": np.ones(3)}
    arrays.update(scale=2, W=np.full((2, 3), 5))
    np.testing.assert_array_equal(arrays.flat, [5, 5, 5, 5, 5, 5, 1, 1, 1, 2])
    assert arrays is same
    assert arrays["W"] is view


def test_assigning_refuses_another_shape_and_another_name(arrays: NamedArrays) -> None:
    values: list[Any] = [[1, 2], np.ones(1), np.ones((1, 3))]
    for value in values:  # NumPy would repeat the second, and drop an axis of the third
        with pytest.raises(ValueError, match=r"b has shape \(3,\), not "):
            arrays["b"] = value
        with pytest.raises(ValueError, match=r"b has shape \(3,\), not "):
            arrays.update({"W": 1, "b": value})
    with pytest.raises(ValueError, match=r"flat has shape \(10,\), not \(3,\)"):
        arrays.flat = np.ones(3)
    with pytest.raises(TypeError, match="b holds float64, not complex128"):
        arrays["b"] = 1j  # NumPy would drop the imaginary part
    with pytest.raises(KeyError, match="c"):
        arrays["c"] = 1
    with pytest.raises(KeyError, match="c"):
        arrays.update({"W": 1, "c": 1})
    assert not arrays.flat.any()


@pytest.mark.parametrize("copied", [NamedArrays.copy, copy.deepcopy])
def test_a_copy_has_a_buffer_of_its_own(copied: Callable[[NamedArrays], NamedArrays]) -> None:
    arrays = NamedArrays(SHAPES, np.float32)
    arrays.flat[:] = range(10)
    twin = copied(arrays)
    assert isinstance(twin, NamedArrays)
    assert twin.flat.dtype == np.float32
    assert twin.shapes == SHAPES
    twin["W"] = -1
    np.testing.assert_array_equal(arrays.flat, range(10))
    np.testing.assert_array_equal(twin.flat, [-1, -1, -1, -1, -1, -1, 6, 7, 8, 9])


@pytest.mark.parametrize(
    ("method", "given"),
    [("__delitem__", "b"), ("pop", "b"), ("popitem", ()), ("clear", ()), ("setdefault", "c")],
)
def test_a_name_cannot_come_or_go(arrays: NamedArrays, method: str, given: Any) -> None:
    """It would be gone from saved files, and stay in `flat`."""
    with pytest.raises(TypeError, match=r"names are fixed.*\n.*make a dict"):
        getattr(arrays, method)(*given)
    assert arrays.shapes == SHAPES


def test_arrays_can_be_exchanged_in_one_update() -> None:
    arrays = NamedArrays({"a": (2,), "b": (2,)}, float)
    arrays.flat = np.arange(1.0, 5.0)
    arrays.update(a=arrays["b"], b=arrays["a"])
    np.testing.assert_array_equal(arrays.flat, [3, 4, 1, 2])
