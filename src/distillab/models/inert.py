"""Reads what torch.save wrote without running code in it: what is neither a tensor nor plain data is replaced."""

import pickle
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple
from zipfile import ZipFile

import torch
from torch import Tensor

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file in torch's older format
STORAGES = {
    "BFloat16": torch.bfloat16,
    "Bool": torch.bool,
    "Byte": torch.uint8,
    "Char": torch.int8,
    "ComplexDouble": torch.complex128,
    "ComplexFloat": torch.complex64,
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "Int": torch.int32,
    "Long": torch.int64,
    "Short": torch.int16,
    "Untyped": torch.uint8,
}


class Inert(dict):
    """Stands in for any class or function of a file: accepts whatever the file does with it, and does nothing.

    A dict, so that the weights in a mapping of a class of its own can be read.
    """

    path = ""  # the dotted name of what it stands in for

    def __new__(cls, *_: Any, **__: Any) -> "Inert":
        """The arguments are dropped."""
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __call__(self, *_: Any, **__: Any) -> "Inert":
        """For what the file has called."""
        return self

    def append(self, *_: Any) -> None:
        """For what was a list or a set."""

    extend = add = update = append
    __hash__ = object.__hash__


class Storage(NamedTuple):
    """The bytes of tensors, and the type of their numbers."""

    content: torch.UntypedStorage
    dtype: torch.dtype

    @classmethod
    def empty(cls, numbers: int, dtype: torch.dtype) -> "Storage":
        """Room for so many numbers."""
        return cls(torch.UntypedStorage(numbers * dtype.itemsize), dtype)

    def fill(self, file: IO[bytes]) -> None:
        """Read the bytes from a file, in which they are little-endian; raises EOFError where it ends too early."""
        room = torch.empty(0, dtype=torch.uint8).set_(self.content).numpy()
        if file.readinto(room) != len(room):
            raise EOFError("the file ends within a tensor")


def _tensor(storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return torch.empty(0, dtype=storage.dtype).set_(storage.content, offset, size, stride)


def _tensor_of_dtype(storage: Storage, *layout: Any) -> Tensor:
    return _tensor(Storage(storage.content, layout[5]), *layout[:3])


def _dtype(path: str) -> torch.dtype | None:
    """The type of numbers that a global of the file names, itself or by its storage."""
    module, _, name = path.rpartition(".")
    if module in ("torch", "torch.cuda", "torch.storage") and name.endswith("Storage"):
        return STORAGES.get(name.removesuffix("Storage"))
    found = vars(torch).get(name) if module == "torch" else None
    return found if isinstance(found, torch.dtype) else None


# What is done for the functions that torch's files call; everything else is inert.
KNOWN: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": dict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "torch._utils._rebuild_parameter_with_state": lambda tensor, *_: tensor,
    "torch._tensor._rebuild_from_type_v2": lambda rebuild, kind, arguments, *_: rebuild(*arguments),
    "torch.storage._load_from_bytes": lambda content: read_older(BytesIO(content)),
}


class _Unpickler(
    pickle._Unpickler
):  # the one in Python, whose steps can be replaced, and which a broken file cannot hurt
    def __init__(self, file: IO[bytes], storage: Callable[[Any], Any] | None = None) -> None:
        super().__init__(file, encoding="latin1")  # of names that Python 2 wrote
        if storage is not None:
            self.persistent_load = storage

    def find_class(self, module: str, name: str) -> Any:
        """Nothing is imported: a dtype, a function of `KNOWN`, or a stand-in of its own for every other name."""
        path = f"{module}.{name}"
        return _dtype(path) or KNOWN.get(path) or type("Inert", (Inert,), {"path": path})

    def get_extension(self, code: int) -> None:
        """A number that stands for a global of the process is not looked up."""
        self.append(Inert)

    def load_build(self) -> None:
        """An object's state is dropped: no tensor has one."""
        self.stack.pop()

    def load_bytearray8(self) -> None:
        """Read the bytes; pickle would fill as many as a damaged file claims, perhaps all memory, before it reads."""
        self.append(self.read(int.from_bytes(self.read(8), "little")))

    dispatch = pickle._Unpickler.dispatch | {pickle.BUILD[0]: load_build, pickle.BYTEARRAY8[0]: load_bytearray8}


def read_zip(file: Path) -> Any:
    """What torch.save wrote in its format since 1.6; KeyError where the zip file is not of torch.save.

    Raises whatever a damaged file leads to, as does `read_older`.
    """
    with ZipFile(file) as archive:
        names = archive.namelist()
        pickled = next((name for name in names if name == "data.pkl" or name.endswith("/data.pkl")), "data.pkl")
        folder, kept = pickled.removesuffix("data.pkl"), {}
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("it is big-endian")

        def storage(known: tuple[Any, ...]) -> Storage:
            _, dtype, key, _, numbers = known
            if key not in kept:
                kept[key] = Storage.empty(numbers, dtype)
                with archive.open(f"{folder}data/{key}") as content:
                    kept[key].fill(content)
            return Storage(kept[key].content, dtype)

        return _Unpickler(BytesIO(archive.read(pickled)), storage).load()


def read_older(file: IO[bytes]) -> Any:
    """What torch.save wrote in its older format, or the content of a plain pickle."""
    first, kept = _Unpickler(file).load(), {}
    if first != MAGIC:
        return first
    _, _system = _Unpickler(file).load(), _Unpickler(file).load()

    def storage(known: tuple[Any, ...]) -> Any:
        if known[0] == "module":  # a whole model: its class, and the class's source
            return known[1]
        _, dtype, key, _, numbers, part = known
        if key not in kept:
            kept[key] = Storage.empty(numbers, dtype)
        _, start, length = part or (None, 0, numbers)
        return Storage(kept[key].content[start * dtype.itemsize : (start + length) * dtype.itemsize], dtype)

    content = _Unpickler(file, storage).load()
    for key in _Unpickler(file).load():
        file.read(8)  # the number of numbers once more
        kept[key].fill(file)
    return content
