"""Keeps what the frozen flows make of each image on disk: they do not change, so they need not compute it again."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.run.claim import claimed
from training.run.exits import BadConfigurationError
from training.run.room import take_room
from training.transfer.devices import TYPES, Precision

LIMIT_BYTES: Final = 20 * 10**9
FILL_BATCH: Final = 32
ROWS: Final = ".rows"
KEPT_AS: Final[dict[Precision, np.dtype[Any]]] = {
    "fp32": np.dtype(np.float32), "fp16": np.dtype(np.float16), "bf16": np.dtype(np.int16),
}  # fmt: skip
"""numpy has no bfloat16: of it the bits are kept."""


def fingerprint(module: nn.Module, *others: object) -> str:
    """A name for what a module computes: SHA-256 of its weights and buffers and of whatever else matters."""
    digest = sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    for other in others:
        digest.update(repr(other).encode())
    return digest.hexdigest()[:32]


def _make_room(folder: Path, path: Path, size: int) -> int:
    """Bytes that the cache at `path` may take, after others were deleted as far as `size` needs it."""
    others = sorted((file for file in folder.glob("*.maps") if file != path), key=_opened_ns)

    def left() -> int:
        free = shutil.disk_usage(folder).free + (path.stat().st_blocks * 512 if path.exists() else 0)
        return min(free, LIMIT_BYTES - sum(file.stat().st_size for file in others))

    while others and size <= LIMIT_BYTES and left() < size:
        oldest = others.pop(0)
        # The rows first: maps without them are nobody's, rows without maps would say that zeros are maps.
        oldest.with_suffix(ROWS).unlink(missing_ok=True)
        oldest.unlink()
    return left()


def _opened_ns(maps: Path) -> int:
    """When a cache was opened last; what a process left that was killed as it made or deleted one goes first."""
    rows = maps.with_suffix(ROWS)
    return rows.stat().st_mtime_ns if rows.exists() else 0


@dataclass(frozen=True, slots=True)
class PrefixCache:
    """Feature maps (rows, C, h, w) in one file, with a second that says which rows are there.

    They are kept in the precision that they were computed in, so that nothing is lost by keeping them.

    A killed run, or a machine that stopped, leaves whole rows behind, and the next run, or another one with the same
    frozen flows, uses them. Those that were opened longest ago make room for others; a run that still reads one keeps
    it until it ends.
    """

    maps: "np.memmap[Any, np.dtype[Any]]"
    filled: NDArray[np.bool_]
    precision: Precision

    @classmethod
    def open(
        cls, folder: Path, key: str, *, rows: int, shape: tuple[int, ...], precision: Precision = "fp32"
    ) -> "PrefixCache":
        """Open or make the cache `key`.

        Raises BadConfigurationError where it would not fit, and StoreUnwritableError where its room cannot be taken.
        """
        kind = KEPT_AS[precision]
        size = int(np.prod(shape, dtype=np.int64)) * rows * kind.itemsize
        folder.mkdir(parents=True, exist_ok=True)
        path, index = folder / f"{key}.maps", folder / f"{key}{ROWS}"
        with claimed(folder, wait=True):
            if size > (left := _make_room(folder, path, size)):
                raise BadConfigurationError(
                    f"{folder}: the frozen flows' maps of {rows} images take {size / 1e9:.1f} GB, {left / 1e9:.1f} GB "
                    "are left for them; use fewer copies"
                )
            if not path.exists():
                index.unlink(missing_ok=True)
            for file, length in ((path, size), (index, rows)):
                if not file.exists():
                    take_room(file, length)
            index.touch()
            return cls(
                np.memmap(path, kind, "r+", shape=(rows, *shape)),
                np.memmap(index, np.bool_, "r+", shape=(rows,)),
                precision,
            )

    def fill(self, rows: NDArray[np.intp], compute: Callable[[NDArray[np.intp]], Tensor]) -> int:
        """Have `compute` make those of `rows` that are missing, some at a time; return how many it made."""
        missing = np.unique(rows[~self.filled[rows]])
        for start in range(0, len(missing), FILL_BATCH):
            chunk = missing[start : start + FILL_BATCH]
            made = compute(chunk).to(TYPES[self.precision]).cpu().contiguous()
            self.maps[chunk] = made.view(torch.int16).numpy() if self.precision == "bf16" else made.numpy()
            self.maps.flush()
            self.filled[chunk] = True
        return len(missing)

    def read(self, rows: NDArray[np.intp]) -> Tensor:
        """Maps (B, C, h, w) of rows that were filled, float32."""
        found = torch.from_numpy(np.ascontiguousarray(self.maps[rows]))
        return (found.view(torch.bfloat16) if self.precision == "bf16" else found).float()
