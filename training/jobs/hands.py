"""Prepares the hands of all radiographs once, segmented and enhanced: `python -m training.jobs.hands --config FILE`.

Without an enhancer in the configuration it stops after segmentation (what the enhancer is trained on). A radiograph
that cannot be read, or that has no hand in it, is named in `failures.csv`, and jobs that read the hands leave it out.
`hands.png` shows some of them. With `badly_stored`, a seed, each radiograph is first made into a bad file, as drawn.
"""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from services.core.domain.preprocess import HAND_PX, crop_square, standardise, whole
from services.core.errors import InvalidRadiographError
from training.data.augment import badly_stored
from training.data.radiographs import Dataset, Radiograph, report_missing
from training.data.rows import ORIGIN, ORIGIN_COLUMN, Column, Rows, as_bytes
from training.data.split import SHARES, Part
from training.enhancement.hands import (
    BADLY_STORED,
    enhance,
    frame_masks,
    gated,
    load_enhancer,
    load_segmenter,
    made_by,
    masking_sha256,
    segmented_hand,
)
from training.evaluation.hands_sheet import draw_hands
from training.jobs.begun import as_begun, keep_config
from training.jobs.command import JobConfig, command
from training.models.enhancer import UNetGenerator
from training.models.segmenter import FCDenseNet
from training.publish.published import Published
from training.run.claim import alone
from training.run.exits import BadConfigurationError, Interrupted
from training.run.journal import Journal
from training.run.results import write_table
from training.run.steps import stop_requests
from training.transfer.inputs import augment_code

LOG = logging.getLogger(__name__)
CHUNK: Final = 16
FAILURES_CSV: Final = "failures.csv"
HANDS_PNG: Final = "hands.png"
IMAGE: Final[Column] = ((HAND_PX, HAND_PX), "uint8")
NUMBER: Final[Column] = ((), "float32")
SEGMENTED: Final[dict[str, Column]] = {
    "raw": IMAGE, "segmented": IMAGE, "fraction": NUMBER, "certainty": NUMBER, "contrast": NUMBER,
    ORIGIN_COLUMN: ORIGIN,
}  # fmt: skip
ENHANCED: Final[dict[str, Column]] = {"enhanced": IMAGE, "structure_change": NUMBER}

Values = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Models:
    """The files of the networks that prepare, the gate's limit, and the seed of bad files where these are wanted."""

    segmenter: Path
    enhancer: Path | None
    maximum_structure_change: float
    badly_stored: int | None

    def loaded(self) -> "Preparation":
        """The networks themselves. Raises BadConfigurationError."""
        enhancer = load_enhancer(self.enhancer) if self.enhancer else None
        return Preparation(load_segmenter(self.segmenter), enhancer, self.maximum_structure_change, self.badly_stored)

    def made_by(self) -> str:
        """What prepared hands depend on beside the radiographs. Raises BadConfigurationError."""
        clean = made_by(self.segmenter, self.enhancer, self.maximum_structure_change)
        return clean if self.badly_stored is None else f"{clean} {BADLY_STORED} {self.badly_stored} {augment_code()}"


class HandsConfig(JobConfig):
    """Which radiographs, which models prepare their hands, and where they go.

    Models are the `weights.pt` of a run, or published versions: files `model.onnx`, or their places in a store. Where
    `badly_stored` is a seed, each radiograph's frame is first disturbed as a bad file would (one in eight stays as it
    is): what networks meet in serving is what these models make of it, which no change to a prepared hand shows.
    """

    dataset: Dataset
    out: Path
    segmenter: Path | Published
    enhancer: Path | Published | None = None
    maximum_structure_change: float = Field(1.0, gt=0)
    parts: tuple[Part, ...] = tuple(SHARES)
    badly_stored: int | None = Field(None, ge=0, strict=True)
    processes: int = Field(2, ge=1)

    @property
    def published(self) -> dict[str, Published]:
        """The models that lie in a store, by their keys."""
        models = {"segmenter": self.segmenter, "enhancer": self.enhancer}
        return {key: model for key, model in models.items() if isinstance(model, Published)}

    def settled(self) -> Self:
        """The same with the versions named that served as these hands were begun: a killed job goes on with those."""
        return self.model_copy(update={key: as_begun(it, self.out, key) for key, it in self.published.items()})

    def check_serving(self, begun: "HandsConfig") -> None:
        """Raise BadConfigurationError where hands that were `begun` are all there, and this asks for other versions."""
        for key, model in self.published.items():
            now, then = model.named().version, begun.published[key].version
            if now != then:
                raise BadConfigurationError(
                    f"{self.out} is complete, made with version {then} of {model.model}; version {now} serves now: "
                    "name another folder for its hands"
                )

    def models(self) -> Models:
        """The files of both; versions that lie in a store are copied from there, once."""
        found = [m.fetch(self.out) if isinstance(m, Published) else m for m in (self.segmenter, self.enhancer)]
        assert found[0] is not None
        return Models(found[0], found[1], self.maximum_structure_change, self.badly_stored)


@dataclass(frozen=True, slots=True)
class Preparation:
    """The networks of one process, each with one thread: small batches on one core are the fastest."""

    segmenter: FCDenseNet
    enhancer: UNetGenerator | None
    maximum_structure_change: float
    badly_stored: int | None

    def values(self, radiograph: Radiograph) -> Values:
        """One row of every column. Raises InvalidRadiographError where there is no radiograph or no hand in it."""
        frame = radiograph.frame()
        if self.badly_stored is not None:
            frame = badly_stored(frame, np.random.default_rng((self.badly_stored, *radiograph.id.encode())))
        ((probability, mask),) = frame_masks(self.segmenter, [frame])
        if not mask.any():
            raise InvalidRadiographError("no hand was found", field="mask")
        hand = segmented_hand(frame, mask)
        values = {
            "raw": as_bytes(crop_square(standardise(frame), whole(frame), size_px=HAND_PX)),
            "segmented": as_bytes(hand),
            **gated(frame, probability, mask),
            ORIGIN_COLUMN: np.uint64(radiograph.origin),
        }
        if self.enhancer is not None:
            (enhanced,), (change,) = enhance(
                self.enhancer, hand[None], maximum_structure_change=self.maximum_structure_change
            )
            values |= {"enhanced": as_bytes(enhanced), "structure_change": np.float32(change)}
        return {name: np.asarray(value) for name, value in values.items()}


_HERE: dict[str, Preparation] = {}


def _begin(models: Models) -> None:
    """Make a process ready: it ends when the one that started it does, and leaves Ctrl-C to that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _HERE["preparation"] = models.loaded()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _prepare(radiographs: Sequence[Radiograph]) -> list[Values | str]:
    """What was made of each, or why nothing could be."""
    results: list[Values | str] = []
    for radiograph in radiographs:
        try:
            results.append(_HERE["preparation"].values(radiograph))
        except (InvalidRadiographError, OSError) as error:
            results.append(str(error))
    return results


def results(
    models: Models, radiographs: Sequence[Radiograph], rows: NDArray[np.intp], *, processes: int
) -> Generator[tuple[int, Values | str], None, None]:
    """Row and result of each of `rows`, computed in processes of their own; ends them when it is closed."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(models,)) as pool:
        try:
            chunks = [rows[start : start + CHUNK].tolist() for start in range(0, len(rows), CHUNK)]
            found = pool.map(_prepare, [[radiographs[row] for row in chunk] for chunk in chunks])
            for chunk, made in zip(chunks, found, strict=True):
                yield from zip(chunk, made, strict=True)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def run(config: HandsConfig) -> None:
    """Prepare what is missing, or was made of another file or shape; a killed run loses what it was at."""
    with alone(config.out):
        _run(config.settled(), config)


def _run(config: HandsConfig, wanted: HandsConfig) -> None:
    models = config.models()
    models.loaded()  # weights that are no segmenter's or enhancer's are told here, not by every process
    radiographs = [r for r in config.dataset.read() if r.part in config.parts]
    columns = SEGMENTED | (ENHANCED if models.enhancer else {})
    ids, maker = [r.id for r in radiographs], models.made_by()
    prepared = Rows.make(config.out, ids, columns, made_by=maker, code=masking_sha256())
    keep_config(config, config.out)
    prepared.forget_all_but([r.origin for r in radiographs])
    missing = prepared.missing
    if not len(missing):
        wanted.check_serving(config)
    failures, kept = dict[str, str](), len(radiographs) - len(missing)
    with (
        Journal(config.out, title="hands", total=len(radiographs)) as journal,
        stop_requests() as stopping,
        closing(results(models, radiographs, missing, processes=config.processes)) as found,
    ):
        journal.rewind(kept)
        for done, (row, result) in enumerate(found, 1):
            if isinstance(result, str):
                failures[radiographs[row].id] = result
            else:
                prepared.write(np.array([row]), **{name: value[None] for name, value in result.items()})
            if done % 100 == 0 or done == len(missing):
                journal.record(kept + done, missing=len(missing) - done, failed=len(failures))
            if stopping():
                raise Interrupted(f"stopped after {done} of {len(missing)} radiographs; start it again to go on")
    report_missing("could not be prepared", list(failures), of=len(radiographs))
    write_table(config.out / FAILURES_CSV, ("id", "reason"), failures.items())
    draw_hands(prepared, config.out / HANDS_PNG, failed=len(failures))


if __name__ == "__main__":
    command(HandsConfig, run, __doc__)
