"""The files that a command line names: themselves, and those in folders."""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from distillab.core.errors import printable


class Found(NamedTuple):
    """The files that are to be read, and what is left out."""

    files: list[str]
    refused: list[str]  # a line for each path that cannot be read
    others: list[str]  # files in folders with another ending


def find(paths: Sequence[str], endings: tuple[str, ...]) -> Found:
    """Named files whatever their ending, and those in folders, at any depth, that have one of the endings, in sorted order.

    Hidden files and folders inside a folder are passed over, and so is a link that leads back.
    """
    found = Found([], [], [])
    for given in paths:
        path = os.path.expanduser(given)
        if os.path.isdir(path):
            for file in _walk(path, found.refused):
                (found.files if file.lower().endswith(endings) else found.others).append(file)
        elif os.path.isfile(path):
            found.files.append(path)
        else:
            what = "is no file and no folder" if os.path.lexists(path) else "is not there"
            found.refused.append(f"{printable(given)} {what}")
    return found


def _walk(folder: str, refused: list[str], above: tuple[tuple[int, int], ...] = ()) -> Iterator[str]:
    """The regular files in a folder and in those inside it; `above` are the folders that lead to it."""
    try:
        status = os.stat(folder)
        with os.scandir(folder) as listed:
            entries = sorted(listed, key=lambda entry: entry.name)
    except OSError as error:
        refused.append(f"{printable(folder)} cannot be listed ({error.strerror})")
        return
    own = (status.st_dev, status.st_ino)
    if own in above:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if os.path.isdir(entry.path):
            yield from _walk(entry.path, refused, (*above, own))
        elif os.path.isfile(entry.path):  # to open a pipe would wait for ever
            yield entry.path
