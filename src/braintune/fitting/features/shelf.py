"""Activations on the disk: one safetensors file each, the longest unused removed for room.

Files appear whole or not at all, and each is named by what it holds, so that any number of
processes may read, write and remove at once: what is not there is computed again. Nobody waits for
the disk, so each file has a checksum by which one that a power cut spoilt is told.
"""

import os
import zlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from braintune.files import write_bytes

# The share of the limit that is left free by a sweep, so that not every write needs one.
_HEADROOM = 20


class Shelf:
    """A folder of tensors that stays below a size.

    Args:
        folder: The folder, which need not exist.
        limit: Bytes that all files together may have. Processes that write at once may exceed it by
            a twentieth each.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self.limit = limit
        # As if much was written: who wrote before this process is not known.
        self._since_sweep = limit

    def read(self, key: str) -> torch.Tensor | None:
        """A tensor, or None if it is not there or not whole; reading counts as use."""
        path = self._file(key)
        try:
            content = path.read_bytes()
            os.utime(path)
            found = load(content)
            tensor, check = found["activations"], int(found["check"])
        except (FileNotFoundError, SafetensorError, KeyError):
            return None
        return tensor if _checksum(tensor) == check else None

    def write(self, key: str, tensor: torch.Tensor) -> None:
        """Keep a tensor in the number format that it has, and make room for it."""
        tensor = tensor.detach().cpu().contiguous()
        content = save({"activations": tensor, "check": torch.tensor(_checksum(tensor))})
        self._since_sweep += len(content)
        if self._since_sweep > self.limit // _HEADROOM:
            self._sweep(self.limit - self.limit // _HEADROOM - len(content))
            self._since_sweep = len(content)
        write_bytes(self._file(key), content, durable=False)

    def _sweep(self, left: int) -> None:
        """Remove what was not used for longest, until so many bytes are left."""
        there = []
        for path in self._folder.rglob("*.safetensors"):
            try:
                facts = path.stat()
            except FileNotFoundError:
                continue
            there.append((facts.st_mtime_ns, facts.st_size, path))
        total = sum(size for _, size, _ in there)
        for _, size, path in sorted(there):
            if total <= left:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _file(self, key: str) -> Path:
        return self._folder / f"{key}.safetensors"


def _checksum(tensor: torch.Tensor) -> int:
    return zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data)
