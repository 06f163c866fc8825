"""What W&B wrote to disk, read back."""

import json


def wandb_records(folder):
    """The records of the one `.wandb` file below `folder`."""
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    return records(path)


def records(path):
    """The records of a `.wandb` file: LevelDB's log format under a header of seven bytes."""
    from wandb.proto import wandb_internal_pb2

    content, position, parts = path.read_bytes(), 7, b""
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = int.from_bytes(content[position + 4 : position + 6], "little"), content[position + 6]
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(parts)
            parts = b""


def read(items):
    """Keys and values of a record; an image's or a table's fields come one by one."""
    found = {}
    for item in items:
        *outer, last = item.nested_key or [item.key]
        place = found
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = json.loads(item.value_json)
    return found
