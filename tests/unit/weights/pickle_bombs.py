"""Small pickles that would take hours or gigabytes if their reader did what they say."""

from __future__ import annotations

import struct


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def module_of(array: bytes) -> bytes:
    """A pickle of ``{"m": {"w": array}}``."""
    return b"\x80\x03}" + text("m") + b"}" + text("w") + array + b"ss."


DTYPE = b"cnumpy\ndtype\n" + text("f4") + b"\x89\x88\x87R"
EMPTY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
ONE = EMPTY + b"(K\x01K\x01\x85" + DTYPE + b"\x89C\x04\x00\x00\x80?tb"
EMPTY_OF_NONE = EMPTY + b"(K\x01K\x00\x85" + DTYPE + b"\x89C\x00tb"


def declared(shape: bytes, data: bytes = b"C\x04\x00\x00\x80?") -> bytes:
    return module_of(EMPTY + b"(K\x01" + shape + DTYPE + b"\x89" + data + b"tb")


def deep_tuples() -> bytes:
    """A key whose hash takes 2⁶⁰ steps: nested tuples, each containing the previous one twice."""
    return b"\x80\x03})" + b"".join(b"q\x01h\x01\x86" for _ in range(60)) + ONE + b"s."


def shared_bytes() -> bytes:
    """A 4 kB array under two hundred names: 800 kB once copied."""
    array = (
        EMPTY + b"q\x01(K\x01M\xe8\x03\x85" + DTYPE + b"\x89B\xa0\x0f\x00\x00" + bytes(4000) + b"tb"
    )
    others = b"".join(text(str(number)) + b"h\x01" for number in range(200))
    return b"\x80\x03}" + text("m") + b"}(" + text("w") + array + others + b"us."


def text_encoded_again_and_again() -> bytes:
    """200 kB of text encoded to bytes a thousand times: 200 MB."""
    call = b"c_codecs\nencode\nq\x00" + text("a" * 200_000) + text("latin1") + b"\x86q\x01R"
    return b"\x80\x03" + call + b"h\x00h\x01R" * 1000 + b"."


def one_buffer_for_many_arrays() -> bytes:
    """A 200 kB bytearray that is the buffer of a thousand arrays."""
    buffer = b"\x96" + struct.pack("<Q", 200_000) + bytes(200_000) + b"q\x00"
    make = b"cnumpy._core.numeric\n_frombuffer\nq\x01"
    array = b"(h\x00" + DTYPE + b"J" + struct.pack("<I", 50_000) + b"\x85" + text("C") + b"tq\x02R"
    return b"\x80\x05" + buffer + make + array + b"h\x01h\x02R" * 1000 + b"}."


def one_module_under_many_names() -> bytes:
    """A thousand names for one dict with a thousand names for one array."""
    names = [text(str(number)) for number in range(1000)]
    inner = b"}q\x01(" + b"".join(name + b"h\x00" for name in names) + b"u"
    outer = b"}(" + b"".join(name + b"h\x01" for name in names) + b"u"
    return b"\x80\x03" + EMPTY_OF_NONE + b"q\x00" + inner + outer + b"."


def long_name_of_many_arrays() -> bytes:
    """A module name of 100 kB with a thousand arrays: 100 MB once the names are joined."""
    others = b"".join(text(str(number)) + b"h\x00" for number in range(1000))
    inner = b"}(" + text("w") + EMPTY_OF_NONE + b"q\x00" + others + b"u"
    return b"\x80\x03}" + text("m" * 100_000) + inner + b"s."


def nest(depth: int, value: bytes = b")") -> bytes:
    """Nested tuples, each containing the previous one twice: the repr has 2 ** ``depth`` items."""
    return value + b"".join(b"q\x01h\x01\x86" for _ in range(depth))


def dtype_of_tuples(depth: int) -> bytes:
    return module_of(b"cnumpy\ndtype\n" + nest(depth) + b"\x85R")


def kind_of_tuples(depth: int) -> bytes:
    make = b"cnumpy.core.multiarray\n_reconstruct\n"
    return module_of(make + nest(depth) + b"K\x00\x85C\x01b\x87R")


def module_of_tuples(depth: int) -> bytes:
    return module_of(b"cdill._dill\n_import_module\n" + nest(depth) + b"\x85R")


def order_of_tuples(depth: int) -> bytes:
    dtype = b"cnumpy\ndtype\n" + text("f4") + b"\x89\x88\x87R(K\x03" + nest(depth) + b"NNNtb"
    return module_of(dtype)


def encoding_of_tuples(depth: int) -> bytes:
    return b"\x80\x03c_codecs\nencode\n" + nest(depth) + nest(depth) + b"\x86R."


def long_equal_keys() -> bytes:
    """Two equal 2 MB strings that alternate as a key; each comparison reads all of both."""
    key = text("k" * 2_000_000)
    return (
        b"\x80\x03}"
        + key
        + b"q\x01"
        + b"N"
        + b"s"
        + key
        + b"q\x02Ns"
        + (b"h\x01Nsh\x02Ns" * 20_000)
        + b"."
    )


ENDLESS = {
    "a dtype of tuples": (dtype_of_tuples(60), "of dtype a tuple"),
    "a kind of tuples": (kind_of_tuples(60), "unknown kind"),
    "a module of tuples": (module_of_tuples(60), "it names a tuple"),
    "a byte order of tuples": (order_of_tuples(60), "damaged dtype"),
    "an encoding of tuples": (encoding_of_tuples(60), "encodes something"),
    "a deep dtype": (dtype_of_tuples(0).replace(b")", b")" + b"\x85" * 100_000, 1), "a tuple"),
    "long equal keys": (long_equal_keys(), "is not a dict"),
    "a huge number": (
        module_of(b"\x8b" + struct.pack("<I", 10**6) + b"\x7f" * 10**6),
        "not an array",
    ),
    "a number of many digits": (module_of(b"L" + b"9" * 10**6 + b"L\n"), "damaged"),
}

TEN_GIGABYTES = struct.pack("<I", 50_000)

BOMBS = {
    "10 GB declared": (
        declared(b"J" + TEN_GIGABYTES + b"J" + TEN_GIGABYTES + b"\x86"),
        "declares an array of 10,000,000,000 bytes but contains 4",
    ),
    "10 GB declared by the empty array": (
        module_of(EMPTY.replace(b"K\x00\x85", b"J" + TEN_GIGABYTES + b"\x85")),
        "not an array",
    ),
    "10 GB of bytes declared": (
        module_of(b"\x8e" + struct.pack("<Q", 10**10) + b"few"),
        "expected 10000000000 bytes",
    ),
    "10 GB of text declared": (b"\x80\x04\x8d" + struct.pack("<Q", 10**10) + b"few.", "damaged"),
    "10 GB in a frame": (b"\x80\x04\x95" + struct.pack("<Q", 10**10) + b"}.", None),
    "a memo index of 4 thousand million": (b"\x80\x03}r\xff\xff\xff\xff.", None),
    "a negative side": (declared(b"J\xff\xff\xff\xff\x85"), "invalid shape"),
    "a side of many digits": (declared(b"\x8a\x40" + b"\x7f" * 64 + b"\x85"), "invalid shape"),
    "too many axes": (declared(b"(" + b"K\x01" * 99 + b"t"), "invalid shape"),
    "a key of tuples": (deep_tuples(), "keys that are not text"),
    "fifty thousand tuples deep": (b"\x80\x03)" + b"\x85" * 50_000 + b".", "not a dict"),
    "shared bytes": (shared_bytes(), "share data"),
    "text encoded again and again": (text_encoded_again_and_again(), "more bytes than it contains"),
    "one buffer for many arrays": (one_buffer_for_many_arrays(), None),
    "one module under many names": (one_module_under_many_names(), "names repeat"),
    "a long name of many arrays": (long_name_of_many_arrays(), "names repeat"),
}
