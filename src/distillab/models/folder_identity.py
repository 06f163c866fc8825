"""What tells one large folder of weights from another without reading all of it."""

import hashlib
import json
from pathlib import Path

from distillab.core.files import file_hash

LIMIT = 2e9  # bytes of weights; of less all are hashed
BEGINNING = 4096  # bytes of each tensor that are read
SMALL = 1e8  # bytes of a file that is hashed whole where only changes must be seen
CONTENT = (".safetensors", ".bin", ".gguf", ".json", ".model", ".txt")
TOLD = ("config.json", "tokenizer.json", "tokenizer_config.json")


def folder_identity(folder: Path) -> str | None:
    """A hash that stands for the weights of a local model; None where they are few, or no safetensors.

    It is of the config, the tokenizer, and each file's name, size, header and the first 4 KiB of each tensor, which tell
    two trainings of one architecture apart.
    """
    files = sorted(folder.glob("*.safetensors"))
    if sum(file.stat().st_size for file in files) <= LIMIT:
        return None
    digest = hashlib.sha256()
    for name in TOLD:
        if (folder / name).is_file():
            digest.update(f"{name} {file_hash(folder / name)}\n".encode())
    for file in files:
        digest.update(f"{file.name} {file.stat().st_size} {_beginnings(file)}\n".encode())
    return f"folder-{digest.hexdigest()}"


def folder_content(folder: Path) -> str:
    """A hash of what a local model is, by which a run sees that its folder was changed: its files of weights and settings.

    Of large files of safetensors it reads the header and the beginnings of the tensors, of others the size.
    """
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.suffix in CONTENT and path.is_file()):
        size = file.stat().st_size
        large = _beginnings(file) if file.suffix == ".safetensors" else str(size)
        digest.update(f"{file.name} {file_hash(file) if size <= SMALL else large}\n".encode())
    return digest.hexdigest()


def _beginnings(path: Path) -> str:
    """The hash of a file's header, and of where each of its tensors begins."""
    with path.open("rb") as file:
        first = file.read(8)
        header = file.read(int.from_bytes(first, "little"))
        digest = hashlib.sha256(first + header)
        about = {name: one for name, one in json.loads(header).items() if name != "__metadata__"}
        for start, end in sorted(one["data_offsets"] for one in about.values()):
            file.seek(8 + len(header) + start)
            digest.update(file.read(min(BEGINNING, end - start)))
    return digest.hexdigest()
