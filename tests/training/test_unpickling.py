"""Pickles of foreign files: every way of writing an array is read, and nothing in a pickle is ever run."""

from __future__ import annotations

import os
import pickle
import struct
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from training.unpickling import CodeFound, load_array

REAL = st.sampled_from(["f2", "<f4", ">f4", "f8", "i1", "<i2", ">i8", "u1", "u4", "?"])


def as_numpy_1(data: bytes) -> bytes:
    """Older pickles name the parts of NumPy in lines."""
    return data.replace(b"cnumpy._core.", b"cnumpy.core.")


@settings(max_examples=150, deadline=None)
@given(
    array=REAL.flatmap(lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=0, min_side=0))),
    protocol=st.integers(0, 5),
    fortran=st.booleans(),
    older=st.booleans(),
)
def test_every_protocol_gives_the_array_back(
    array: np.ndarray[Any, Any], protocol: int, fortran: bool, older: bool
) -> None:
    written = np.asfortranarray(array) if fortran else array
    data = pickle.dumps(written, protocol=protocol)
    read = load_array(as_numpy_1(data) if older and protocol < 4 else data)
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


def test_python_2_wrote_numbers_as_text() -> None:
    numbers = np.arange(6, dtype="<f8").reshape(2, 3) / 7
    data = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87R"
        b"(K\x01K\x02K\x03\x86cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<i", numbers.nbytes)
        + numbers.tobytes()
        + b"tb."
    )
    np.testing.assert_array_equal(load_array(data), numbers)


class Unsafe:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_code_is_named_and_not_run(protocol: int, tmp_path: Any) -> None:
    proof = tmp_path / "pwned"
    for payload in (
        Unsafe(os.system, f"touch {proof}"),
        Unsafe(eval, f"open({str(proof)!r}, 'w')"),
        [Unsafe(exec, "1")],
    ):
        with pytest.raises(CodeFound, match=r"system|eval|exec"):
            load_array(pickle.dumps(payload, protocol=protocol))
    assert not proof.exists()


@pytest.mark.parametrize(
    "value",
    [
        OrderedDict(a=1),
        np.float64(3),
        np.random.default_rng(0),
        np.ma.masked_array([1]),
        np.datetime64("2020"),
    ],
)
def test_other_objects_are_named(value: object) -> None:
    with pytest.raises(CodeFound):
        load_array(pickle.dumps(value))


def test_what_is_no_array_of_real_numbers() -> None:
    for value, sentence in (
        (np.array([{}, None]), "array of objects"),
        (np.array(["a"]), "no real numbers"),
        (np.array([1j]), "no real numbers"),
        (np.zeros(2, dtype=[("a", "f4")]), "no real numbers"),
        (np.array([1], dtype="M8[s]"), "no real numbers"),
        ([1.0, 2.0], "holds list, expected an array"),
        ({"fea": 1}, "holds dict, expected an array"),
        (b"", "holds bytes"),
    ):
        with pytest.raises(ValueError, match=sentence):
            load_array(pickle.dumps(value))


def parts(shape: bytes = b"K\x02K\x03\x86", data: bytes = bytes(48)) -> bytes:
    """A pickled array whose shape and data are freely chosen."""
    head = b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01"
    kind = b"cnumpy\ndtype\nX\x02\x00\x00\x00f8K\x00K\x01\x87R"
    order = b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    return head + shape + kind + order + b"\x89B" + struct.pack("<I", len(data)) + data + b"tb."


def test_shapes_that_do_not_fit_the_data() -> None:
    assert load_array(parts()).shape == (2, 3)
    for shape in (
        b"K\x02K\x04\x86",
        b"K\x02K\x02\x86",
        b"J\xfe\xff\xff\xffJ\xfd\xff\xff\xff\x86",
        b"N",
        b"NN\x86",
    ):
        with pytest.raises(ValueError, match="shape does not fit"):
            load_array(parts(shape))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no pickle at all",
        b"\x80\x04",
        b"\x80\x04r\xff\xff\xff\xffN.",  # a memo of 64 GB
        b"\x80\x04\x95\x00\x00\x00\x00\x00\x01\x00\x00N.",  # a frame of a terabyte
        b"\x80\x04\x8e\x00\x00\x00\x00\x00\x01\x00\x00N.",  # bytes of a terabyte
        b"\x80\x04" + b"N" * 2_000 + b".",
        b"\x80\x03cnumpy\nndarray\n)R.",
        b"\x80\x03c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00utf-8\x86R.",
        b"\x80\x03cnumpy.core.multiarray\n_reconstruct\n}(X\x01\x00\x00\x00aK\x01ub.",
        b"\x80\x03cnumpy.core.multiarray\n_reconstruct\n)R.",
    ],
)
def test_damaged_and_hostile_bytes_are_no_array(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"is damaged|expected an array|does not fit|no known type"):
        load_array(data)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_changed_bytes_give_an_array_or_our_error(data: st.DataObject) -> None:
    good = bytearray(pickle.dumps(np.arange(4.0), protocol=data.draw(st.sampled_from([2, 4, 5]))))
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = load_array(bytes(good))
    except (ValueError, CodeFound):
        return
    assert read.dtype.kind in "fiub"
