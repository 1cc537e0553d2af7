"""Read a pickle without executing it.

A pickle is a program for a stack machine that may import and call anything. An allow-list in the
standard unpickler does not bound its time and memory: before it calls any hook, it hashes nested
tuples (60 of them in 300 bytes take 2⁶⁰ steps), allocates a memo as large as the file declares,
and copies repeated values. Here the opcodes are interpreted one by one. A name in the file is
never imported. The few names that a :class:`Machine` knows have their own implementation here, and
any other name is an error.

A value from a file is compared, hashed or formatted only if it is a string or a number. For nested
tuples, these operations could take forever.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import IO, Any

_VALUES = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


class Refused(Exception):  # noqa: N818
    """The reason why a file is rejected; the caller adds the file's name."""


def check(condition: Any, reason: str) -> None:
    """Reject the file unless a condition holds."""
    if not condition:
        raise Refused(reason)


def shown(value: object, most: int = 80) -> str:
    """A value of a file for use in a message: a string, truncated, or else the type's name.

    >>> shown("os.system"), shown([[]])
    ("'os.system'", 'a list')
    """
    return repr(value[:most]) if isinstance(value, str) else f"a {type(value).__name__}"


class Name:
    """A name that a pickle would import.

    Args:
        dotted: module and attribute, joined by dots.
    """

    __slots__ = ("dotted",)

    def __init__(self, dotted: str) -> None:
        self.dotted = dotted

    def is_(self, *dotted: str) -> bool:
        """Whether it is one of these."""
        return self.dotted in dotted


def is_name(value: object, *dotted: str) -> bool:
    """Whether a value is one of these names."""
    return isinstance(value, Name) and value.is_(*dotted)


class Machine:
    """The stack and memo of a pickle, with a method for each supported opcode.

    Args:
        known: allowed name → its implementation; None for names that are not called.
        size: size of the file, bytes; also the most bytes that all calls together may create.
    """

    #: What the file should contain, for messages.
    content = "array"

    def __init__(self, known: Mapping[str, Callable[..., Any] | None], size: int) -> None:
        self.known = known
        self.bytes_left = size
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.texts: dict[str, str] = {}

    def run(self, file: IO[bytes]) -> Any:
        """Interpret the pickle at the current position, and leave the file at its end.

        Raises:
            Refused: the pickle needs anything that is not allowed.
            ValueError, IndexError, KeyError: the pickle is damaged.
        """
        for opcode, argument, _ in pickletools.genops(file):
            self.step(opcode.name, argument)
        return self.stack[-1]

    def step(self, opcode: str, argument: Any) -> None:
        """Interpret one opcode."""
        if opcode in _VALUES:
            if isinstance(argument, str):  # intern strings, so that comparing them is fast
                argument = self.texts.setdefault(argument, argument)
            self.stack.append(argument)
        elif opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode])
        elif handler := getattr(self, f"_on_{opcode.lower()}", None):
            handler(argument)
        elif opcode not in ("PROTO", "FRAME", "STOP"):
            raise Refused(f"it uses the opcode {opcode}, which {self.content}s do not need")

    def name(self, dotted: str) -> Name:
        """An allowed name."""
        if dotted not in self.known:
            raise Refused(f"it names {shown(dotted, 100)}, which no {self.content} needs")
        return Name(dotted)

    def call(self, function: object, arguments: object) -> Any:
        """The result of a call."""
        make = self.known.get(function.dotted) if isinstance(function, Name) else None
        if make is None or not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise Refused(f"it calls something that does not create {self.content}s")
        try:
            return make(*arguments)
        except TypeError:
            raise Refused(
                f"it calls {function.dotted} with arguments that {self.content}s do not have"
            ) from None

    def is_key(self, key: object) -> bool:
        """Whether a value may be a dict key; hashing a string takes time linear in its length."""
        return isinstance(key, str)

    def build(self, target: Any, state: Any) -> None:
        """Set the state of an object."""
        raise Refused("it sets the state of something else")

    def _on_global(self, argument: str) -> None:
        self.stack.append(self.name(argument.replace(" ", ".")))

    def _on_inst(self, argument: str) -> None:
        raise Refused(f"it creates an object of {shown(argument.replace(' ', '.'), 100)}")

    def _on_stack_global(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        check(isinstance(name, str) and isinstance(module, str), "it has a name that is not text")
        self.stack.append(self.name(f"{module}.{name}"))

    def _on_mark(self, _: None) -> None:
        self.marks.append(len(self.stack))

    def _since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _on_tuple(self, _: None) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _on_tuple1(self, _: None) -> None:
        self._last_as_tuple(1)

    def _on_tuple2(self, _: None) -> None:
        self._last_as_tuple(2)

    def _on_tuple3(self, _: None) -> None:
        self._last_as_tuple(3)

    def _last_as_tuple(self, count: int) -> None:
        check(len(self.stack) >= count, "it is damaged")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def _on_empty_dict(self, _: None) -> None:
        self.stack.append({})

    def _on_dict(self, _: None) -> None:
        items = self._since_mark()
        self.stack.append({})
        self._fill(items)

    def _on_setitem(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([key, value])

    def _on_setitems(self, _: None) -> None:
        self._fill(self._since_mark())

    def _fill(self, items: list[Any]) -> None:
        target, keys = self.stack[-1], items[::2]
        check(isinstance(target, dict) and len(items) % 2 == 0, "it is damaged")
        check(all(map(self.is_key, keys)), "it has keys that are not text")
        target.update(zip(keys, items[1::2], strict=True))

    def _on_memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _on_put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    _on_binput = _on_long_binput = _on_put

    def _on_get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    _on_binget = _on_long_binget = _on_get

    def _on_reduce(self, _: None) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        made = self.call(function, arguments)
        if isinstance(made, bytes):
            self.bytes_left -= len(made)
            check(self.bytes_left >= 0, "it creates more bytes than it contains")
        self.stack.append(made)

    def _on_build(self, _: None) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        self.build(target, state)
