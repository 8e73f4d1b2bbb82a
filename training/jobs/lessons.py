"""Distillation: what better networks read, which a network learns from beside the labels (Hinton et al. 2015)."""

import json
import logging
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from training.publish.reader import Member, read_reader
from training.run.room import whole
from training.transfer.devices import Device
from training.transfer.images import Examples
from training.transfer.learner import Lessons
from training.transfer.target import AgeTarget, CategoryTarget

LOG = logging.getLogger(__name__)
BATCH: Final = 32
FILE: Final = "lessons.npz"


@dataclass(frozen=True, slots=True)
class Teacher:
    """Networks whose mean is imitated, and the share of the loss that imitation has; the labels have the rest.

    They read each image as it is stored and mirrored, once, so that a label that is wrong does not stand alone.
    """

    members: Annotated[list[Member], Field(min_length=1)]
    share: Annotated[float, Field(gt=0, le=1)] = 0.5

    def lessons(self, examples: Examples, target: AgeTarget | CategoryTarget, device: Device, out: Path) -> Lessons:
        """What they read; kept in `out`, and made anew only for other images or other networks."""
        made_with = self._made_with(examples, device)
        path = out / FILE
        if path.exists():
            with np.load(path) as kept:
                if str(kept["made_with"]) == made_with:
                    return Lessons(kept["outputs"], self.share)
        outputs = self._read(examples, target, device)
        if not device.rank:
            with whole(path) as file:
                np.savez(file, outputs=outputs, made_with=made_with)
        return Lessons(outputs, self.share)

    def _read(self, examples: Examples, target: AgeTarget | CategoryTarget, device: Device) -> NDArray[np.float32]:
        """Raw outputs (N, n)."""
        reader = read_reader(self.members, target, examples.sexes).to(device.handle, memory_format=torch.channels_last)
        parts = []
        for start in range(0, len(examples), BATCH):
            rows = np.arange(start, min(start + BATCH, len(examples)))
            images = torch.from_numpy(examples.floats(rows)).to(device.handle)
            with torch.inference_mode(), device.autocast():
                both = [reader(x.contiguous(memory_format=torch.channels_last))[0] for x in (images, images.flip(-1))]
            parts.append(torch.stack(both).float().mean(dim=0).cpu().numpy())
            if start % (BATCH * 50) == 0:
                LOG.info("the teacher has read %d of %d images", start, len(examples))
        return np.concatenate(parts)

    def _made_with(self, examples: Examples, device: Device) -> str:
        members = [asdict(member) | member.card() for member in self.members]
        text = json.dumps([members, examples.digest(), device.precision], default=str, sort_keys=True)
        return sha256(text.encode()).hexdigest()
