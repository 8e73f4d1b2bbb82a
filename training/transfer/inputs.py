"""What the flows that learn are fed with: maps of the frozen flows, computed anew or kept from before."""

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from training.data import augment
from training.models.backbones import FLOWS
from training.models.regressor import TransferNetwork
from training.run.exits import BadConfigurationError
from training.transfer.devices import Device
from training.transfer.images import ROTATION_DEG, Examples, Sampler
from training.transfer.prefix import PrefixCache, fingerprint
from training.transfer.stages import Stage

LOG = logging.getLogger(__name__)
COPIES_SEED: Final = 20_260
"""Copies are the same in every run, whatever its seed, so that runs can share a cache."""


@cache
def augment_code() -> str:
    """SHA-256 of the code that changes images: kept maps are of what it drew."""
    return sha256(Path(str(augment.__file__)).read_bytes()).hexdigest()


class Frozen(nn.Module):
    """What comes before the flows that learn: images (B, 1, S, S) in [0, 1] -> maps (B, C, h, w).

    Where the head learns alone the maps are pooled to (B, K, 1, 1), which is all that it sees of them.
    """

    def __init__(self, network: TransferNetwork, stage: Stage) -> None:
        super().__init__()
        flows = network.flows()
        self.blocks = nn.Sequential(*(flows[flow] for flow in stage.prefix))
        self.pooled = stage.prefix == FLOWS

    @override
    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.blocks(images * 2 - 1)
        return maps.mean(dim=(2, 3), keepdim=True) if self.pooled else maps


class Inputs:
    """Batches of one stage, for this process's share of each step."""

    def __init__(
        self,
        network: TransferNetwork,
        stage: Stage,
        sampler: Sampler,
        train: Examples,
        *,
        device: Device,
        cache: Path | None,
    ) -> None:
        if stage.cached and cache is None:
            raise BadConfigurationError("a cached stage needs a folder for its cache")
        self.frozen, self.stage, self.sampler, self.train = Frozen(network, stage), stage, sampler, train
        self.device, self.cache, self.copies = device, cache, stage.copies or 1
        self._open: dict[int, PrefixCache] = {}
        self._thread = ThreadPoolExecutor(1)
        self._ahead: tuple[int, Future[NDArray[np.float32]]] | None = None

    def training(self, step: int) -> tuple[NDArray[np.intp], Tensor]:
        """Indices (b,) of this process's images of `step`, and the frozen flows' maps (b, C, h, w) of them."""
        indices = self._share(self.sampler.draw(step))
        if self.stage.cached:
            rows = np.asarray(indices * self.copies + self._copy_numbers(step), np.intp)
            return indices, self._kept(self.train, rows, copies=self.copies)
        ahead, self._ahead = self._ahead, None
        images = ahead[1].result() if ahead and ahead[0] == step else self._images(step)
        self._ahead = (step + 1, self._thread.submit(self._images, step + 1))
        return indices, self._compute(images)

    def unchanged(self, examples: Examples, rows: NDArray[np.intp], *, keep: bool) -> Tensor:
        """Maps (b, C, h, w) of images that are not augmented; kept for the one set that is seen again and again."""
        if keep and self.stage.cached:
            return self._kept(examples, rows, copies=0)
        return self._compute(examples.floats(rows))

    def _share(self, drawn: NDArray[np.intp]) -> NDArray[np.intp]:
        return drawn[self.device.rank :: self.device.world]

    def _copy_numbers(self, step: int) -> NDArray[np.intp]:
        """Which of its copies each image of the share is seen in."""
        rng = np.random.default_rng((self.sampler.seed, step, 1))
        return self._share(np.asarray(rng.integers(self.copies, size=self.sampler.batch_size), np.intp))

    def _images(self, step: int) -> NDArray[np.float32]:
        """Augmented images (b, 1, S, S) of a step."""
        indices = self._share(self.sampler.draw(step))
        keys: list[tuple[int, ...]]
        if self.stage.copies is None:
            slots = self._share(np.arange(self.sampler.batch_size))
            keys = [(self.sampler.seed, step, 2, int(slot)) for slot in slots]
        else:
            keys = [(COPIES_SEED, int(i), int(c)) for i, c in zip(indices, self._copy_numbers(step), strict=True)]
        return np.stack([self.train.augmented(int(i), key) for i, key in zip(indices, keys, strict=True)])[:, None]

    def _compute(self, images: NDArray[np.float32]) -> Tensor:
        """The frozen flows' maps of images (b, 1, S, S)."""
        x = torch.from_numpy(images).to(self.device.handle).contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), self.device.autocast():
            maps: Tensor = self.frozen(x)
        return maps

    def _kept(self, examples: Examples, rows: NDArray[np.intp], *, copies: int) -> Tensor:
        """Maps of kept rows, made now where they are missing: `copies` rows an image, or the image itself for 0."""

        def compute(missing: NDArray[np.intp]) -> Tensor:
            return self._compute(_forms(examples, missing, copies=copies))

        if copies not in self._open:
            self._open[copies] = self._cache_of(examples, copies)
        self._open[copies].fill(rows, compute)
        return self._open[copies].read(rows).to(self.device.handle).contiguous(memory_format=torch.channels_last)

    def _cache_of(self, examples: Examples, copies: int) -> PrefixCache:
        """The file for what these frozen flows make of these images, and of nothing else."""
        assert self.cache is not None
        shape = tuple(self._compute(examples.floats(np.arange(1))).shape[1:])
        images = examples.digest(augmented=bool(copies))
        changed_by = (augment_code(), ROTATION_DEG, COPIES_SEED) if copies else ()
        key = fingerprint(self.frozen, "as computed", self.device.precision, copies, images, changed_by)
        rows = len(examples) * max(copies, 1)
        LOG.info("the frozen flows' maps of %d images are kept as %s", rows, key)
        return PrefixCache.open(self.cache, key, rows=rows, shape=shape, precision=self.device.precision)


def _forms(examples: Examples, rows: NDArray[np.intp], *, copies: int) -> NDArray[np.float32]:
    """Images (b, 1, S, S) of cache rows: row i * copies + c is copy c of image i."""
    if not copies:
        return examples.floats(rows)
    keys = [(COPIES_SEED, *divmod(int(row), copies)) for row in rows]
    return np.stack([examples.augmented(key[1], key) for key in keys])[:, None]
