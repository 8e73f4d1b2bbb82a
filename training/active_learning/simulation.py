"""Active learning where all outlines are known: what a strategy would have asked, and what came of it."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from services.core.domain.metrics import dice
from services.core.domain.postprocess import hand_mask
from training.active_learning.committee import committee_probability
from training.active_learning.learner import Image, Outlines, SegmenterLearner, new_network, probability
from training.active_learning.oracles import Answer, Mask, Question
from training.active_learning.rounds import Plan, Rounds
from training.active_learning.scoring import Scorer
from training.active_learning.sight import network_input, square_mask
from training.active_learning.strategies import Highest, Measure
from training.models.enhancer import UNet
from training.run.checkpoint import Checkpoint
from training.run.journal import Journal
from training.run.steps import run_steps

MEASURES: Final[tuple[Measure, ...]] = ("dissimilarity", "vote_entropy", "entropy")
RESULT: Final = "result.json"
Architecture = Literal["fcdensenet", "unet"]


@dataclass(frozen=True, slots=True)
class World:
    """Radiographs that all have an outline: a pool of frames and masks, both (H, W), and what selects and tests.

    The latter are as the network sees them, (size_px, size_px).
    """

    pool: Sequence[tuple[Image, Mask]]
    selection: Outlines
    test: Outlines
    size_px: int

    def seen(self, index: int) -> tuple[Image, Mask]:
        """One of the pool as the network sees it."""
        frame, mask = self.pool[index]
        return network_input(frame, self.size_px), square_mask(mask, self.size_px)


@dataclass(frozen=True, slots=True)
class Known:
    """The oracle that knows all outlines of a pool."""

    masks: Mapping[str, Mask]

    def ask(self, questions: Sequence[Question]) -> None:
        """Nothing has to be done."""

    def answers(self, ids: Sequence[str]) -> dict[str, Answer]:
        """All of them."""
        return {id_: Answer(self.masks[id_]) for id_ in ids}


def simulate(world: World, plan: Plan, folder: Path, *, beginnings: Path | None = None) -> dict[str, Any]:
    """Do all rounds of a plan, or those that are missing; returns and keeps what each came to on the test outlines.

    `rounds` holds for each the number of `labels`, the Dice of every test outline averaged over the members, `dice`
    (N,), and, of a committee, what its scores had to do with its errors: Spearman's rank correlation of each of
    MEASURES with the members' mean error (1 - Dice) over the pool that had no outline yet.
    """
    if (folder / RESULT).exists():
        return _read(folder)
    ids = [str(index) for index in range(len(world.pool))]
    frames = {id_: frame for id_, (frame, _) in zip(ids, world.pool, strict=True)}
    oracle = Known({id_: mask for id_, (_, mask) in zip(ids, world.pool, strict=True)})
    plan = replace(plan, patience=len(ids))  # every curve has all its points
    learning = Rounds(folder, plan, ids, frames.__getitem__, oracle, world.selection, world.test, beginnings)
    found: list[dict[str, Any]] = []
    while not learning.done() or not learning.done()[-1]["converged"]:
        learning.next()
    for entry in learning.done():
        members = learning.committee(entry["round"])
        own = [outline_dice(member, world.test) for member in members]
        result: dict[str, Any] = {"labels": entry["labels"], "dice": np.mean(own, axis=0).round(5).tolist()}
        if len(members) > 1:
            asked = set(learning.asked(entry["round"]))
            rest = [id_ for id_ in ids if id_ not in asked]
            result["together"] = outline_dice(members, world.test).round(5).tolist()
            result["correlation"] = agreement_with_error(members, [world.seen(int(id_)) for id_ in rest])
        found.append(result)
    return _keep(folder, {"rounds": found})


def with_all_labels(network: Architecture, world: World, plan: Plan, folder: Path) -> dict[str, Any]:
    """One network learns from the whole pool for as many steps as a plan's rounds together."""
    if (folder / RESULT).exists():
        return _read(folder)
    rounds = 1 + -(-(plan.maximum_labels - plan.start) // plan.per_round)
    later = [replace(phase, steps=phase.steps * (rounds - bool(plan.first))) for phase in plan.phases]
    phases = [*plan.first, *later]
    seed = plan.seed * 1000
    learner = SegmenterLearner(
        unet(seed) if network == "unet" else new_network(seed), selection=world.selection,
        sources=[Outlines.of([world.seen(index) for index in range(len(world.pool))])],
        phases=phases, validate_every=plan.validate_every, seed=seed * 100,
    )  # fmt: skip
    with Journal(folder, title=f"{network}, all labels", total=learner.steps) as journal:
        run_steps(learner, steps=learner.steps, checkpoint=Checkpoint(folder / "last.pt"), journal=journal)
    learner.network.load_state_dict(learner.best)
    figures = {"labels": len(world.pool), "dice": outline_dice(learner.network, world.test).round(5).tolist()}
    return _keep(folder, {"rounds": [figures]})


def unet(seed: int) -> UNet:
    """A U-Net with weights drawn from a seed; as a segmenter its map is the logit."""
    torch.manual_seed(seed)
    return UNet()


def outline_dice(network: nn.Module | Sequence[nn.Module], outlines: Outlines) -> NDArray[np.float64]:
    """Dice (N,) of the final mask of a network, or of a committee's mean probability."""
    scores = []
    for index in range(len(outlines)):
        image, mask = outlines.pair(index)
        scores.append(dice(hand_mask(_seen(network, image)), mask))
    return np.array(scores)


def agreement_with_error(members: Sequence[Any], pairs: Sequence[tuple[Image, Mask]]) -> dict[str, float]:
    """Rank correlation of each measure with the members' mean error over images whose outline is known."""
    measures = {measure: Scorer(members, Highest(measure)) for measure in MEASURES}
    errors, scores = [], []
    for image, mask in pairs:
        errors.append(1 - np.mean([dice(hand_mask(_seen(member, image)), mask) for member in members]))
        scores.append([scorer.scores(image, seed=0)[measure] for measure, scorer in measures.items()])
    if len(errors) < 3:
        return {}
    ranks = rank(np.array(errors))
    columns = np.array(scores).T
    return {measure: float(np.corrcoef(rank(c), ranks)[0, 1]) for measure, c in zip(MEASURES, columns, strict=True)}


def rank(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks (N,) of values (N,), equal ones sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return shared


def _seen(network: nn.Module | Sequence[nn.Module], image: Image) -> Image:
    if isinstance(network, nn.Module):
        network.eval()
        return probability(network, image[None])[0]
    return committee_probability(list(network), image)


def _read(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / RESULT).read_text())
    return result


def _keep(folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Write the result; the weights and outlines that led to it go."""
    partial = folder / "result.partial"
    partial.write_text(json.dumps(result) + "\n")
    partial.replace(folder / RESULT)
    for path in [*folder.glob("round-*"), folder / "outlines"]:
        shutil.rmtree(path, ignore_errors=True)
    (folder / "last.pt").unlink(missing_ok=True)
    return result
