"""Fits the gates of a release: features of upright, turned and foreign images, and limits that few radiographs fail.

Limits heed radiographs that no network learnt from, as they are and, where it is wanted, disturbed.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from services.core.domain.gates import GateThresholds, Reason, TypicalityLimit
from services.core.domain.preprocess import HAND_PX, to_frame
from services.core.domain.upright import TYPICALITY
from services.core.errors import InvalidRadiographError
from training.data.augment import badly_stored
from training.data.negatives import not_a_hand, shuffled, tilted, turned
from training.data.radiographs import Radiograph, report_missing
from training.data.rows import ORIGIN, ORIGIN_COLUMN, Column, Rows
from training.enhancement.hands import enhance, frame_masks, gated, load_enhancer, load_segmenter, segmented_hand
from training.evaluation.typicality import NAMES
from training.models.enhancer import UNetGenerator
from training.models.ensemble import Reader
from training.models.segmenter import FCDenseNet
from training.models.served import by_thirds
from training.run.advance import Advance
from training.run.exits import BadConfigurationError
from training.run.precision import cpu_autocast

LOG = logging.getLogger(__name__)
Image = NDArray[np.float32]
Figures = Mapping[str, NDArray[np.float32]]
Values = dict[str, NDArray[Any]]
Disturbance = Literal["tilted", "badly_stored"]
"""What usual radiographs may be changed into, for limits that heed these as well."""
Change = tuple[Radiograph, str, tuple[int, int]]
"""A radiograph, which of CHANGES happens to it, and what seeds that."""
CHUNK: Final = 32
BEFORE_READING: Final = ("fraction", "certainty", "contrast")
REASONS: Final = (Reason.NOT_LIKE_TRAINING, Reason.NOT_UPRIGHT, Reason.NOT_LIKE_TRAINING, Reason.NOT_LIKE_TRAINING)


@dataclass(frozen=True, slots=True)
class Preparing:
    """The networks before the reader, in the order of serving."""

    segmenter: FCDenseNet
    enhancer: UNetGenerator
    maximum_structure_change: float

    @classmethod
    def read(cls, segmenter: Path, enhancer: Path, maximum_structure_change: float) -> Self:
        """Those of these weights. Raises BadConfigurationError."""
        return cls(load_segmenter(segmenter), load_enhancer(enhancer), maximum_structure_change)

    def __call__(self, frames: Sequence[Image]) -> tuple[NDArray[np.float32], Figures]:
        """Prepared hands (N, S, S) of a few radiographs (H, W) in [0, 1], zeros where there is no hand.

        And what the gates before the reader look at, each (N,).
        """
        frames = [to_frame(frame) for frame in frames]
        found = list(frame_masks(self.segmenter, frames))
        hands = np.stack([segmented_hand(frame, mask) for frame, (_, mask) in zip(frames, found, strict=True)])
        seen = [gated(frame, probability, mask) for frame, (probability, mask) in zip(frames, found, strict=True)]
        enhanced = enhance(self.enhancer, hands, maximum_structure_change=self.maximum_structure_change)[0]
        return enhanced, {name: np.array([one[name] for one in seen]) for name in BEFORE_READING}


@dataclass(frozen=True, slots=True)
class Chain:
    """All networks in the order of serving."""

    prepare: Preparing
    reader: Reader

    @property
    def width(self) -> int:
        """K, the number of features."""
        return self.features(np.zeros((1, HAND_PX, HAND_PX), np.float32)).shape[1]

    def features(self, hands: Image, *, batch_size: int = 8) -> NDArray[np.float32]:
        """`by_thirds` features (N, K) of prepared hands (N, S, S), averaged over image and mirror as in serving."""
        self.reader.eval()
        parts = []
        for start in range(0, len(hands), batch_size):
            x = torch.from_numpy(hands[start : start + batch_size])[:, None]
            x = x.contiguous(memory_format=torch.channels_last)
            with torch.inference_mode(), cpu_autocast():
                both = [by_thirds(self.reader.features(side).float()) for side in (x, x.flip(3))]
            parts.append(((both[0] + both[1]) / 2).numpy())
        return np.concatenate(parts)


def tilt(frame: Image, rng: np.random.Generator) -> Image:
    """A frame turned by up to 32 degrees, whole, which must still be read."""
    return tilted(frame, float(rng.uniform(-32, 32)), whole=True)


def straight(frame: Image, rng: np.random.Generator) -> Image:
    """A frame as it is."""
    del rng
    return frame


CHANGES: Final[dict[str, Callable[[Image, np.random.Generator], Image]]] = {
    "upright": straight,
    "tilted": tilt,
    "badly stored": badly_stored,
    "turned": turned,
    "no hand": not_a_hand,
    "shuffled": shuffled,
}
"""What the gates are fitted on. Of what is no hand, shuffled patches are the hardest to tell, so most are those."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Radiographs of which `count` are drawn by a seed, of each kind or in all.

    What is made of them is kept in `folder`, of which `made_by` says what it depends on beside the radiographs; what is
    of anything else is made anew.
    """

    radiographs: Sequence[Radiograph]
    count: int
    seed: int
    folder: Path
    made_by: str

    @property
    def order(self) -> NDArray[np.intp]:
        """All their indices, as they are drawn."""
        return np.random.default_rng(self.seed).permutation(len(self.radiographs))


@dataclass(frozen=True, slots=True)
class FittingSets(Sample):
    """Which radiographs the gates are fitted on: `count` for each of CHANGES, fewer where there are few; none twice."""

    @property
    def each(self) -> int:
        """How many there are of each kind."""
        return max(1, min(self.count, len(self.radiographs) // len(CHANGES)))

    @property
    def chosen(self) -> NDArray[np.intp]:
        """Their indices."""
        return self.order[: len(CHANGES) * self.each]

    @property
    def origins(self) -> list[int]:
        """What tells each file from another of that name."""
        return [self.radiographs[index].origin for index in self.chosen]

    def digest(self) -> str:
        """SHA-256 of these."""
        return sha256(repr(self.origins).encode()).hexdigest()

    def features(self, chain: Chain, advance: Advance) -> tuple[NDArray[np.float32], ...]:
        """Features of upright hands (a third tilted, a third badly stored), of turned hands and of what is no hand.

        Radiographs that cannot be read are left out, named and counted. Raises BadConfigurationError where none is
        left, StoreUnwritableError where the features have no room. Those that were not read, and those whose file is
        another now, are tried again each time.
        """
        chosen, kinds = self.chosen, list(CHANGES)
        of_kind = np.arange(len(chosen)) // self.each
        ids = [self.radiographs[index].id for index in chosen]
        names = [f"{kinds[kind]}: {id_}" for kind, id_ in zip(of_kind, ids, strict=True)]
        columns: dict[str, Column] = {
            "features": ((chain.width,), "float32"), "hand": ((), "bool"), ORIGIN_COLUMN: ORIGIN,
        }  # fmt: skip
        rows = Rows.make(self.folder, names, columns, made_by=self.made_by, anew=True)
        rows.forget_all_but(self.origins)

        def values(frames: Sequence[Image]) -> Values:
            hands, _ = chain.prepare(frames)
            return {"features": chain.features(hands), "hand": np.asarray(hands.any(axis=(1, 2)))}

        changes = [
            (self.radiographs[i], kinds[kind], (self.seed, int(i))) for i, kind in zip(chosen, of_kind, strict=True)
        ]
        fill(rows, changes, values, advance)
        unread = [ids[row] for row in rows.missing]
        report_missing("could not be read, and the gates are fitted without them", unread, of=len(chosen))
        seen = np.asarray(rows.done & rows.columns["hand"])
        unseen = [ids[row] for row in np.flatnonzero(rows.done & ~seen & (of_kind < kinds.index("no hand")))]
        report_missing("show no hand as they are changed, and the gates are fitted without", unseen, of=len(chosen))
        upright, turns = of_kind <= kinds.index("badly stored"), of_kind == kinds.index("turned")
        foreign = of_kind >= kinds.index("no hand")
        features = np.asarray(rows.columns["features"])
        found = tuple(features[seen & which] for which in (upright, turns, foreign))
        if not all(map(len, found)):
            raise BadConfigurationError("no hand is left to fit the gates on")
        return found


def fill(rows: Rows, changes: Sequence[Change], values: Callable[[Sequence[Image]], Values], advance: Advance) -> None:
    """Make the rows that are missing, of radiographs each with its change; what cannot be read has no row."""
    for start in range(0, len(changes), CHUNK):
        places = range(start, min(start + CHUNK, len(changes)))
        if rows.done[list(places)].all():
            advance.kept(len(places))
            continue
        frames = {place: _changed(*changes[place]) for place in places}
        there = np.array([place for place, frame in frames.items() if frame is not None], np.intp)
        if len(there):
            found = values([frame for frame in frames.values() if frame is not None])
            if ORIGIN_COLUMN in rows.columns:
                found[ORIGIN_COLUMN] = np.array([changes[place][0].origin for place in there], np.uint64)
            rows.write(there, **found)
        advance(len(places), doing=rows.folder.name)


def _changed(radiograph: Radiograph, kind: str, seed: tuple[int, int]) -> Image | None:
    """A radiograph (H, W) with one of CHANGES; None, and the reason in the log, where it cannot be read."""
    try:
        return CHANGES[kind](radiograph.frame(), np.random.default_rng(seed))
    except (InvalidRadiographError, OSError) as error:
        LOG.warning("%s: %s", radiograph.id, error)
        return None


@dataclass(frozen=True, slots=True)
class RefusedShares:
    """Of usual radiographs, the share that a gate may refuse; of each disturbed kind that is heeded, its own.

    Those of the gates that know what is no hand (`foreign`) and what is not upright (`turned`) are apart: what these
    let through, no other gate refuses.
    """

    refused: float
    foreign: float
    turned: float
    disturbed: Mapping[Disturbance, float]

    def of(self, gate: str) -> float:
        """Of usual radiographs, that of one of NAMES."""
        return {"hand likeness": self.foreign, "uprightness": self.turned}.get(gate, self.refused)


def thresholds(
    usual: Figures,
    disturbed: Mapping[Disturbance, Figures],
    shares: RefusedShares,
    *,
    maximum_interval_width_months: float,
    maximum_structure_change: float,
) -> GateThresholds:
    """Limits that so many of usual radiographs and of each disturbed kind of them fail, one gate at a time.

    Figures are TYPICALITY (N, m) and BEFORE_READING (N,), N > 0; of disturbed kinds there may be none.
    """
    allowed = [shares.disturbed[kind] for kind in disturbed]

    def least(*values: NDArray[np.float32], share: float = shares.refused) -> float:
        """Of the usual ones and of each kind."""
        of_kinds = zip(values, (share, *allowed), strict=True)
        return float(np.min([np.quantile(of_kind, at, method="lower") for of_kind, at in of_kinds]))

    def all_of(name: str) -> list[NDArray[np.float32]]:
        return [figures[name] for figures in (usual, *disturbed.values())]

    limits = tuple(
        TypicalityLimit(name, least(*(scores[:, column] for scores in all_of(TYPICALITY)), share=shares.of(name)), why)
        for column, (name, why) in enumerate(zip(NAMES, REASONS, strict=True))
    )
    fraction, *fractions = all_of("fraction")
    most = [np.quantile(f, 1 - share, method="higher") for f, share in zip(fractions, allowed, strict=True)]
    largest = [fraction.max(), *most]
    return GateThresholds(
        minimum_contrast=least(*all_of("contrast")) / 2,
        # A hand may be smaller on its plate than any that was seen; what it is, typicality tells.
        minimum_foreground_fraction=least(*all_of("fraction")) * 0.6,
        maximum_foreground_fraction=min(0.98, float(np.max(largest)) * 1.05),
        # Below the least that was seen, so that one radiograph in two forms does not fall on both sides.
        minimum_mask_certainty=least(*all_of("certainty")) * 0.95,
        typicality=limits,
        maximum_interval_width_months=maximum_interval_width_months,
        maximum_structure_change=maximum_structure_change,
    )
