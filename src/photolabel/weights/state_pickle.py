"""The few pickle instructions that a PyTorch state dict consists of, run without the power to call anything.

A pickle is a program for a stack machine. The standard library's machine imports and calls what the program
names, and even with that forbidden it can be made to fill the memory (a memo index of four billion) or to
hang (hashing tuples nested in each other). This machine knows the thirty instructions that torch.save writes
for tensors, has a step limit, takes only strings and integers as dictionary keys, and where a program would
call a function of PyTorch it notes a `Tensor`: a description, checked later against the file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

from ..errors import InvalidWeightsError

MAX_PICKLE_BYTES: Final = 16 << 20
MAX_STEPS: Final = 400_000  # about 40 a tensor, so 10,000 tensors, in half a second
MAX_TEXT_BYTES: Final = 4096
MAX_DIMENSIONS: Final = 8
MAX_COUNT: Final = 1 << 62  # above any file; keeps sums of products small and messages short

# Storage class -> NumPy type, little-endian on disk. bfloat16 is the upper half of a float32.
STORAGES: Final = {
    "torch FloatStorage": "<f4",
    "torch DoubleStorage": "<f8",
    "torch HalfStorage": "<f2",
    "torch BFloat16Storage": "bfloat16",
    "torch LongStorage": "<i8",
    "torch IntStorage": "<i4",
    "torch ShortStorage": "<i2",
    "torch CharStorage": "|i1",
    "torch ByteStorage": "|u1",
    "torch BoolStorage": "|b1",
}
_ORDERED_DICT = "collections OrderedDict"
# PyTorch 0.1 to 0.3 wrote `_rebuild_tensor` and whole Parameters; 0.4 and later `_rebuild_tensor_v2`.
_REBUILD = {"torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2"}
_PARAMETER = {"torch._utils _rebuild_parameter", "torch.nn.parameter Parameter"}
_GLOBALS = {_ORDERED_DICT, *_REBUILD, *_PARAMETER, *STORAGES}


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of `count` numbers of the storage class `kind`, kept in the file under `key`."""

    key: str
    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A window on a storage.

    `offset` and `strides` count numbers, not bytes. All are at least 0; nothing else is checked here.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Global:
    name: str


class Machine:
    """Runs the pickles that stand one after another in `program`.

    `position` is where the next one begins, `storages` holds by key every storage that was referred to.
    """

    def __init__(self, program: bytes, *, position: int = 0) -> None:
        self.position = position
        self.storages: dict[str, Storage] = {}
        self._program = program
        self._steps = 0

    def load(self) -> object:
        """Return the value of the next pickle.

        None, bool, int, float, str, tuple, list, dict or Tensor, nested.

        Raises InvalidWeightsError for any other instruction, name or call, and for a pickle that is cut short
        or longer than the limits.
        """
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        try:
            while True:
                self._charge(1)
                code = self._take(1)
                if code == b".":
                    return self._stack.pop()
                self._step(code)
        except IndexError as error:  # a pop from an empty stack, or a mark that was never set
            raise InvalidWeightsError("the pickle is broken: it takes a value that it never made") from error

    def _charge(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise InvalidWeightsError(f"the pickle is longer than {MAX_STEPS} instructions")

    def _take(self, length: int) -> bytes:
        raw = self._program[self.position : self.position + length]
        if len(raw) != length:
            raise InvalidWeightsError(f"the pickle is cut short, or longer than {MAX_PICKLE_BYTES} bytes")
        self.position += length
        return raw

    def _number(self, layout: str) -> Any:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _text(self, length: int) -> str:
        if length > MAX_TEXT_BYTES:
            raise InvalidWeightsError(f"the pickle holds a text of more than {MAX_TEXT_BYTES} bytes")
        try:
            return self._take(length).decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidWeightsError("the pickle holds text that is not UTF-8") from error

    def _line(self) -> str:
        end = self._program.find(b"\n", self.position, self.position + 256)
        if end < 0:
            raise InvalidWeightsError("the pickle names something in more than 255 bytes, or is cut short")
        return self._text(end + 1 - self.position)[:-1]

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _step(self, code: bytes) -> None:
        stack = self._stack
        match code:
            case b"\x80":  # PROTO
                if self._take(1)[0] not in (2, 3):
                    raise InvalidWeightsError(
                        "the pickle is not of protocol 2 or 3; torch.save writes 2 unless told otherwise"
                    )
            case b"q":
                self._memo[self._number("<B")] = stack[-1]
            case b"r":
                self._memo[self._number("<I")] = stack[-1]  # a dict: a high index costs nothing
            case b"h":
                stack.append(self._recall(self._number("<B")))
            case b"j":
                stack.append(self._recall(self._number("<I")))
            case b"(":
                self._marks.append(len(stack))
            case b"N":
                stack.append(None)
            case b"\x88":
                stack.append(True)
            case b"\x89":
                stack.append(False)
            case b"K":
                stack.append(self._number("<B"))
            case b"M":
                stack.append(self._number("<H"))
            case b"J":
                stack.append(self._number("<i"))
            case b"\x8a":  # LONG1
                stack.append(int.from_bytes(self._take(self._number("<B")), "little", signed=True))
            case b"G":
                stack.append(self._number(">d"))
            case b"X":  # BINUNICODE
                stack.append(self._text(self._number("<I")))
            case b"U":  # SHORT_BINSTRING: a str of Python 2
                stack.append(self._text(self._number("<B")))
            case b")":
                stack.append(())
            case b"\x85" | b"\x86" | b"\x87":  # TUPLE1, TUPLE2, TUPLE3
                items = tuple(stack.pop() for _ in range(code[0] - 0x84))
                stack.append(items[::-1])
            case b"t":
                stack.append(tuple(self._since_mark()))
            case b"]":
                stack.append([])
            case b"a":
                value = stack.pop()
                self._list(stack[-1]).append(value)
            case b"e":
                values = self._since_mark()
                self._list(stack[-1]).extend(values)
            case b"}":
                stack.append({})
            case b"s":
                value, key = stack.pop(), stack.pop()
                self._set(stack[-1], [key, value])
            case b"u":
                items_to_set = self._since_mark()
                self._set(stack[-1], items_to_set)
            case b"c":  # GLOBAL
                stack.append(self._global(self._line(), self._line()))
            case b"Q":  # BINPERSID
                stack.append(self._storage(stack.pop()))
            case b"R" | b"\x81":  # REDUCE and NEWOBJ: in a pickle of Python both call
                arguments, callee = stack.pop(), stack.pop()
                stack.append(self._build(callee, arguments))
            case b"b":  # BUILD would set attributes. A state dict has version numbers there, which nobody needs.
                state = stack.pop()
                # PyTorch 0.1 put (requires_grad, volatile, hooks) there; a longer tuple held the data.
                flags = isinstance(stack[-1], Tensor) and isinstance(state, tuple) and len(state) == 3
                if not flags and not (isinstance(stack[-1], dict) and isinstance(state, dict)):
                    raise InvalidWeightsError("the pickle sets attributes of something that is no dict or tensor")
            case _:
                raise InvalidWeightsError(
                    f"the pickle holds instruction 0x{code[0]:02x}, which a state dict has no use for. "
                    "Nothing of it was run; expected a file written by torch.save(model.state_dict(), path)"
                )

    def _recall(self, index: int) -> object:
        if index not in self._memo:
            raise InvalidWeightsError("the pickle is broken: it recalls a value that it never kept")
        return self._memo[index]

    @staticmethod
    def _list(target: object) -> list[Any]:
        if not isinstance(target, list):
            raise InvalidWeightsError("the pickle appends to something that is no list")
        return target

    @staticmethod
    def _set(target: object, items: list[Any]) -> None:
        if not isinstance(target, dict) or len(items) % 2:
            raise InvalidWeightsError("the pickle sets items of something that is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Hashing nested tuples may never end, and large numbers can be chosen to collide.
            if type(key) is not str and not (type(key) is int and 0 <= key < 1 << 31):
                raise InvalidWeightsError("the pickle holds a dict whose keys are neither text nor small numbers")
            target[key] = value

    @staticmethod
    def _global(module: str, name: str) -> _Global:
        full = f"{module} {name}"
        if full not in _GLOBALS:
            raise InvalidWeightsError(
                f"the pickle asks for {f'{module}.{name}'!r}, and a state dict of tensors does not need it. "
                "Nothing of it was run; if you trust the file, load it in PyTorch and write "
                "torch.save(model.state_dict(), path)"
            )
        return _Global(full)

    def _storage(self, reference: object) -> Storage:
        """Make a storage of torch.save's ('storage', class, key, device, count); legacy files add None."""
        match reference:
            case ("storage", _Global(kind), str(key), str(_), int(count), *view) if (
                kind in STORAGES and 0 <= count < MAX_COUNT and view in ([], [None])
            ):
                storage = Storage(key, kind, count)
                if self.storages.setdefault(key, storage) != storage:
                    raise InvalidWeightsError(f"storage {key[:80]!r} has two types or sizes")
                return storage
        raise InvalidWeightsError("the pickle refers to a storage in a form that torch.save does not write")

    def _build(self, callee: object, arguments: object) -> object:
        """Return what a call would return, for the five calls that a state dict makes."""
        if not isinstance(callee, _Global) or not isinstance(arguments, tuple):
            raise InvalidWeightsError("the pickle calls something that is no function; nothing of it was run")
        name = callee.name
        if name == _ORDERED_DICT:
            return self._ordered_dict(arguments)
        if name in _REBUILD and len(arguments) >= 4:
            return _tensor(*arguments[:4])
        if name in _PARAMETER and arguments and isinstance(arguments[0], Tensor):
            return arguments[0]
        raise InvalidWeightsError(
            f"the pickle calls {name.replace(' ', '.')!r} with arguments that torch.save does not"
        )

    def _ordered_dict(self, arguments: tuple[Any, ...]) -> dict[str | int, Any]:
        made: dict[str | int, Any] = {}
        for pairs in arguments:  # Python 2 passed its pairs here; Python 3 sets them afterwards
            if not isinstance(pairs, list):
                raise InvalidWeightsError("the pickle makes an OrderedDict of something that is no list")
            self._charge(len(pairs))  # one long list can be recalled often
            for pair in pairs:
                if not isinstance(pair, list | tuple) or len(pair) != 2:
                    raise InvalidWeightsError("the pickle makes an OrderedDict of something else than pairs")
                self._set(made, list(pair))
        return made


def _tensor(storage: object, offset: object, shape: object, strides: object) -> Tensor:
    def counts(value: object) -> bool:
        return (
            isinstance(value, tuple)
            and len(value) <= MAX_DIMENSIONS
            and all(type(n) is int and 0 <= n < MAX_COUNT for n in value)
        )

    if not isinstance(storage, Storage) or not counts((offset,)) or not (counts(shape) and counts(strides)):
        raise InvalidWeightsError(
            "the pickle describes a tensor whose offset, shape or strides are negative, too many or no whole numbers"
        )
    assert isinstance(offset, int) and isinstance(shape, tuple) and isinstance(strides, tuple)
    if len(shape) != len(strides):
        raise InvalidWeightsError(f"the pickle describes a tensor of shape {shape} with {len(strides)} strides")
    return Tensor(storage, offset, shape, strides)
