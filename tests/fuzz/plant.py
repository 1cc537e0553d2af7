"""Files that run a command where a reader lets them: it leaves a mark."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

MARK = "executed"
"""Name of the file that appears in the working directory if something ran."""

COMMAND = f"open({MARK!r}, 'w').close()"
_MAGIC = 0x1950A86A20F9469CFC6C  # begins the files of torch.save before version 1.6


class _Calls:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


def payload(draw: random.Random) -> bytes:
    """A pickle of any protocol that runs a command."""
    kind = draw.randrange(4)
    if kind == 0:
        return b"cbuiltins\nexec\n(X" + struct.pack("<I", len(COMMAND)) + COMMAND.encode() + b"tR."
    calls = _Calls(exec, COMMAND) if kind == 1 else _Calls(open, MARK, "w")
    return pickle.dumps(
        {"state_dict": calls} if kind == 3 else calls, protocol=draw.choice([0, 2, 4, 5])
    )


def whole(data: bytes, draw: random.Random) -> bytes:
    """The file is a pickle, an old torch.save file, or an array of objects."""
    kind = draw.randrange(4)
    if kind == 0:
        return payload(draw)
    if kind == 1:
        return pickle.dumps(_MAGIC, 2) + pickle.dumps(1001, 2) + payload(draw)
    if kind == 2:
        file = io.BytesIO()
        np.save(file, np.array([_Calls(exec, COMMAND)], dtype=object), allow_pickle=True)
        return file.getvalue()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", payload(draw))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return file.getvalue()


def inside(data: bytes, draw: random.Random) -> bytes:
    """A pickle anywhere in the file, or after its end."""
    place = draw.choice([0, len(data), draw.randrange(len(data) + 1)])
    return data[:place] + payload(draw) + data[place:]


def in_zip(data: bytes, draw: random.Random) -> bytes:
    """A member is a pickle, one is added, or one has a name outside the archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    kind = draw.randrange(3)
    if kind == 0:
        content[draw.choice(list(content))] = payload(draw)
    elif kind == 1:
        root = next(iter(content)).partition("/")[0]
        added = ["data.pkl", "constants.pkl", "code/x.py", "data/sample_inputs/model.pt"]
        content[f"{root}/{draw.choice(added)}"] = draw.choice([payload(draw), COMMAND.encode()])
    else:
        content[draw.choice([f"../{MARK}", f"/tmp/../{MARK}", f"x/../../{MARK}"])] = b"escaped"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, value in content.items():
            archive.writestr(zipfile.ZipInfo(name), value)
    return file.getvalue()


def in_text(data: bytes, draw: random.Random) -> bytes:
    """A line or a value asks YAML, or who evaluates text, to run a command."""
    tags = [
        f"!!python/object/apply:builtins.exec [{json.dumps(COMMAND)}]",
        f"!!python/object/apply:os.system ['touch {MARK}']",
        f"!!python/object/new:builtins.eval [{json.dumps(f'open({MARK!r}, chr(119))')}]",
        f"!!python/name:os.system ''\n- touch {MARK}",
        f'"{{{{ {COMMAND} }}}}"',
        f'"$(touch {MARK})"',
        f"\"__import__('os').system('touch {MARK}')\"",
    ]
    lines = data.decode("utf-8", "replace").split("\n")
    number, tag = draw.randrange(len(lines)), draw.choice(tags)
    key = lines[number].partition(":")[0] if ":" in lines[number] else "added"
    lines[number] = f"{key}: {tag}"
    return "\n".join(lines).encode()
