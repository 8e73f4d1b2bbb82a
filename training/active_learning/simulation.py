"""Active learning where all outlines are known: what a strategy would have asked, and what came of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from services.core.domain.metrics import dice
from services.core.domain.postprocess import hand_mask
from training.active_learning.learner import Image, Outlines, probability
from training.active_learning.members import beginning, learn, load
from training.active_learning.oracles import Answer, Answers, Mask, Question
from training.active_learning.plan import Plan
from training.active_learning.rounds import Rounds
from training.active_learning.scoring import Scorer
from training.active_learning.sight import network_input, square_mask
from training.active_learning.strategies import Measure
from training.models.enhancer import UNet
from training.models.segmenter import FCDenseNet
from training.run.spent import Spent

MEASURES: Final[tuple[Measure, ...]] = ("dissimilarity", "vote_entropy", "entropy")
DIGITS: Final = 5
Architecture = Literal["fcdensenet", "unet"]
Pairs = Iterable[tuple[Image, Mask]]


@dataclass(frozen=True, slots=True)
class World:
    """Radiographs that all have an outline: a pool of frames and masks by id, both (H, W), and what selects and tests.

    The latter are as the network sees them, (size_px, size_px).
    """

    pool: Mapping[str, tuple[Image, Mask]]
    selection: Outlines
    test: Outlines
    size_px: int

    def seen(self, id_: str) -> tuple[Image, Mask]:
        """One of the pool as the network sees it."""
        frame, mask = self.pool[id_]
        return network_input(frame, self.size_px), square_mask(mask, self.size_px)


@dataclass(frozen=True, slots=True)
class Known:
    """The oracle that knows all outlines of a pool."""

    pool: Mapping[str, tuple[Image, Mask]]

    def ask(self, questions: Sequence[Question]) -> None:
        """Nothing has to be done."""

    def answers(self, ids: Sequence[str]) -> Answers:
        """All of them."""
        return {id_: Answer(self.pool[id_][1]) for id_ in ids}


def simulate(world: World, plan: Plan, folder: Path, *, beginnings: Path, spent: Spent) -> list[dict[str, Any]]:
    """Do all rounds of a plan, or those that are missing; returns what each came to.

    A round has the number of `labels` and of `steps` so far, the ids that were `asked` for it, `dice` (M, N) of M
    members on N test outlines, and that of their mean probability, `together` (N,). Of the paper's committee also
    the `agreement` of its scores with its errors, over what had no outline yet.
    """
    ids = list(world.pool)
    plan = replace(plan, patience=plan.rounds)  # every curve has all its points
    learning = Rounds(
        folder, plan, ids, lambda id_: world.pool[id_][0], Known(world.pool), world.selection, world.test, beginnings
    )
    while len(learning.done()) < plan.rounds:
        learning.next()
        spent.save()
    found, before = [], set[str]()
    for number in range(plan.rounds):
        members, asked = learning.committee(number), learning.asked(number)
        entry = _round(plan, number, len(asked), [id_ for id_ in asked if id_ not in before], members, world)
        before = set(asked)
        if plan.strategy == "committee" and (rest := [id_ for id_ in ids if id_ not in before]):
            entry["agreement"] = {"ids": rest} | agreement(members, [world.seen(id_) for id_ in rest])
        found.append(entry)
    return found


def with_fixed_labels(
    world: World, plan: Plan, folder: Path, labels: Sequence[str], *, network: Architecture = "fcdensenet",
    first: Path | None = None, spent: Spent,
) -> list[dict[str, Any]]:  # fmt: skip
    """What a learner that asks is held against: one network learns the same outlines in all rounds of its plan.

    It takes as many steps by the same phases, validations and draws. Its first round is kept in `first`, where there is
    one, for others that begin alike. Returns what `simulate` does.
    """
    outlines = Outlines.of(world.seen(id_) for id_ in labels)
    places = [folder / f"round-{number:02d}" for number in range(plan.rounds)]
    if first is not None:
        places[0] = first
    found = []
    for number, place in enumerate(places):
        learner = new_segmenter(network, plan.member_seed(0))
        if number and plan.from_previous:
            load(learner, places[number - 1])
        learn(learner, outlines, world.selection, plan, place, number=number, member=0)
        spent.save()
        load(learner, place)
        found.append(_round(plan, number, len(labels), labels if not number else [], [learner], world))
    return found


def first_alone(world: World, plan: Plan, folder: Path, *, beginnings: Path, spent: Spent) -> list[dict[str, Any]]:
    """Learns what every strategy begins with, and nothing more: what steps alone bring."""
    labels = plan.drawn(list(world.pool))
    return with_fixed_labels(world, plan, folder, labels, first=beginning(beginnings, plan, 0), spent=spent)


def new_segmenter(network: Architecture, seed: int) -> nn.Module:
    """A network with weights drawn from a seed; its map is the logit."""
    torch.manual_seed(seed)
    made: nn.Module = UNet() if network == "unet" else FCDenseNet()
    return made.to(memory_format=torch.channels_last)


def outline_dice(members: Sequence[nn.Module], pairs: Pairs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Dice of the final masks of M members (M, N) on N images, and of their mean probability (N,)."""
    own, together = [], []
    for member in members:
        member.eval()
    for image, mask in pairs:
        maps = [probability(member, image[None])[0] for member in members]
        own.append([dice(hand_mask(one), mask) for one in maps])
        together.append(dice(hand_mask(np.mean(maps, axis=0, dtype=np.float32)), mask))
    return np.array(own).T, np.array(together)


def agreement(members: Sequence[FCDenseNet], pairs: Sequence[tuple[Image, Mask]]) -> dict[str, Any]:
    """Of P images whose outline is known: the members' `errors` (M, P), 1 - Dice, and the `scores` (P,) by measure."""
    scorer = Scorer(members, MEASURES)
    scores = [scorer.scores(image, seed=0) for image, _ in pairs]
    errors = 1 - outline_dice(members, pairs)[0]
    return {
        "errors": errors.round(DIGITS).tolist(),
        "scores": {measure: [float(f"{entry[measure]:.6g}") for entry in scores] for measure in MEASURES},
    }


def _round(
    plan: Plan, number: int, labels: int, asked: Sequence[str], members: Sequence[nn.Module], world: World
) -> dict[str, Any]:
    own, together = outline_dice(members, map(world.test.pair, range(len(world.test))))
    return {
        "labels": labels, "steps": plan.steps(number), "asked": list(asked),
        "dice": own.round(DIGITS).tolist(), "together": together.round(DIGITS).tolist(),
    }  # fmt: skip
