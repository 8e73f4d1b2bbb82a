"""Algorithm 1 of the paper, round by round, each a folder that says what was learnt from, scored and asked."""

import csv
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from training.active_learning.committee import committee_dice, suggestion
from training.active_learning.learner import Outlines
from training.active_learning.members import beginning, learn, load
from training.active_learning.oracles import Answer, Oracle, Question, on_frame
from training.active_learning.plan import Plan
from training.active_learning.scoring import Scorer
from training.active_learning.sight import network_input, square_mask
from training.active_learning.strategies import STRATEGIES, Pool
from training.data.rows import Column, Rows
from training.data.tables import read_table
from training.models.segmenter import FCDenseNet
from training.run.advance import advancing
from training.run.exits import BadConfigurationError, WaitingForLabels
from training.run.results import write_json, write_picture, write_table, write_text

LOG = logging.getLogger(__name__)
Frame = NDArray[np.float32]
START: Final = "start.csv"
"""What the first round learns from; where it is, a run was begun."""
CHUNK: Final = 32
ANSWERED: Final = ("id", "annotators", "agreement")
DECLINED: Final = "declined.csv"
"""What people see nothing to outline in: it is neither learnt from nor asked again."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """One run of active learning in `folder`. `frame` reads a frame by id; all of `pool` may be asked.

    `selection` and `test` are outlined already, at the plan's size: the one chooses weights and tells when the
    committee has converged, the other is only measured. Runs that begin alike may share the members of their first
    round in the folder `beginnings`. What is `given` is outlined from the start: all of it is learnt from, the oracle
    answers for it at once, and what lacks of the plan's `start` is drawn and asked for.
    """

    folder: Path
    plan: Plan
    pool: Sequence[str]
    frame: Callable[[str], Frame]
    oracle: Oracle
    selection: Outlines
    test: Outlines
    beginnings: Path | None = None
    given: frozenset[str] = frozenset()

    def next(self) -> dict[str, Any]:
        """Do one round: take the answers, train, score the rest, ask. Returns its figures.

        Raises WaitingForLabels where answers are missing; nothing has changed then.
        """
        number = len(self.done())
        labelled = self._labelled(number)
        folder = self.folder / f"round-{number:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        members = self._train(number, Outlines.of(self.outline(id_) for id_ in labelled))
        declined = self._declined()
        figures: dict[str, Any] = {"round": number, "labels": len(labelled), **self._dice(members)}
        figures |= {"declined": len(declined)} if declined else {}
        rest = [id_ for id_ in self.pool if id_ not in {*labelled, *declined}]
        figures["converged"] = self._converged([*self.done(), figures], rest)
        if not figures["converged"]:
            self._ask(folder, members, labelled, rest)
        write_json(folder / "figures.json", figures)
        return figures

    def done(self) -> list[dict[str, Any]]:
        """Figures of the rounds that are complete."""
        files = sorted(self.folder.glob("round-*/figures.json"), key=lambda file: _number(file.parent))
        return [json.loads(file.read_text()) for file in files]

    def committee(self, number: int) -> list[FCDenseNet]:
        """The members of a round that is complete."""
        return [self._member(self._place(number, member)) for member in range(self.plan.members)]

    def asked(self, number: int) -> list[str]:
        """What was asked before a round; it learns from what of it was answered."""
        asked = _read_ids(self.folder / START)
        for earlier in range(number):
            asked += _read_ids(self.folder / f"round-{earlier:02d}" / "query.csv")
        return asked

    def _labelled(self, number: int) -> list[str]:
        """What a round learns from: all that was asked before it and answered."""
        if number == 0:
            first = self.folder / START
            if not first.exists():
                self._begin(first)
            self._ask_first(first)
        self._collect(self._open(self.asked(number)))
        while number == 0 and self._replaced(first):
            self._ask_first(first)
            self._collect(self._open(self.asked(number)))
        declined = self._declined()
        if not (labelled := [id_ for id_ in self.asked(number) if id_ not in declined]):
            raise BadConfigurationError(f"{self.folder}: nothing to outline is seen in any radiograph")
        return labelled

    def _open(self, asked: Sequence[str]) -> list[str]:
        """What nobody has answered yet."""
        declined = self._declined()
        return [id_ for id_ in asked if id_ not in declined and not self._outline_file(id_).exists()]

    def _ask_first(self, first: Path) -> None:
        """Put what nobody has outlined; of that there is little, of what is given perhaps much."""
        frames = {id_: self.frame(id_) for id_ in self._open(_read_ids(first)) if id_ not in self.given}
        self.oracle.ask([Question(id_, f, np.zeros(f.shape, bool)) for id_, f in frames.items()])

    def _replaced(self, first: Path) -> bool:
        """Whether others are now asked for in place of what was declined of the first."""
        asked, declined = _read_ids(first), self._declined()
        left = [id_ for id_ in self.pool if id_ not in set(asked)]
        if more := self.plan.drawn(left, there=len(asked) - len(declined.intersection(asked))):
            _write_ids(first, [*asked, *more])
        return bool(more)

    def _declined(self) -> set[str]:
        path = self.folder / DECLINED
        return set(_read_ids(path)) if path.exists() else set()

    def _begin(self, first: Path) -> None:
        given, rest = ([id_ for id_ in self.pool if (id_ in self.given) is known] for known in (True, False))
        if len(given) >= self.plan.maximum_labels:
            raise BadConfigurationError(
                f"{len(given)} radiographs are outlined already, and plan.maximum_labels is {self.plan.maximum_labels}"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        _write_ids(first, [*given, *self.plan.drawn(rest, there=len(given))])

    def _collect(self, ids: Sequence[str]) -> None:
        """Keep the answers to these questions, so that a round is the same whenever it is done again.

        Few at a time of those that are given, since there may be more than memory holds.
        """
        given = [id_ for id_ in ids if id_ in self.given]
        for start in range(0, len(given), CHUNK):
            self._keep_answers(given[start : start + CHUNK])
        self._keep_answers([id_ for id_ in ids if id_ not in self.given])

    def _keep_answers(self, ids: Sequence[str]) -> None:
        answers = self.oracle.answers(ids) if ids else {}
        if declined := [id_ for id_, answer in answers.items() if answer is None]:
            _write_ids(self.folder / DECLINED, sorted({*self._declined(), *declined}))
            LOG.warning("nothing to outline is seen in %s; they are asked no more", ", ".join(declined))
        for id_, answer in answers.items():
            if answer is None:
                continue
            self._log_answer(id_, answer)
            write_picture(self._outline_file(id_), on_frame(answer, self.frame(id_)).astype(np.uint8) * 255)
        if missing := [id_ for id_ in ids if id_ not in answers]:
            some = ", ".join(missing[:5])
            raise WaitingForLabels(f"{len(missing)} outlines are awaited: {some}{', ...' if len(missing) > 5 else ''}")

    def _log_answer(self, id_: str, answer: Answer) -> None:
        """Before the answer is kept: a killed run may log one twice, which is then one line, but none goes missing."""
        path, known = self.folder / "answers.csv", dict[str, list[str]]()
        if path.exists():
            with path.open(newline="") as file:
                known = {row[0]: row for row in csv.reader(file) if row != list(ANSWERED)}
        known[id_] = [id_, str(answer.annotators), f"{answer.agreement:.4f}"]
        write_table(path, ANSWERED, known.values())

    def _outline_file(self, id_: str) -> Path:
        return self.folder / "outlines" / f"{id_}.png"

    def outline(self, id_: str) -> tuple[Frame, NDArray[np.bool_]]:
        """A segmenter input and its outline (S, S), as they were answered."""
        frame = self.frame(id_)
        mask = cv2.imread(str(self._outline_file(id_)), cv2.IMREAD_GRAYSCALE)
        if mask is None or mask.shape != frame.shape:
            raise BadConfigurationError(f"{self._outline_file(id_)} is not the outline that was kept")
        return network_input(frame, self.plan.size_px), square_mask(mask > 0, self.plan.size_px)

    def _place(self, number: int, member: int) -> Path:
        """Where a member of a round is kept."""
        if number == 0 and self.beginnings is not None:
            return beginning(self.beginnings, self.plan, member)
        return self.folder / f"round-{number:02d}" / f"member-{member}"

    def _train(self, number: int, outlines: Outlines) -> list[FCDenseNet]:
        members = []
        for member in range(self.plan.members):
            torch.manual_seed(self.plan.member_seed(member))
            network = FCDenseNet(self.plan.dropout)
            if number and self.plan.from_previous:
                network = self._member(self._place(number - 1, member))
            place = self._place(number, member)
            learn(network, outlines, self.selection, self.plan, place, number=number, member=member)
            members.append(self._member(place))
        return members

    def _member(self, folder: Path) -> FCDenseNet:
        network = FCDenseNet(self.plan.dropout).to(memory_format=torch.channels_last)
        load(network, folder)
        return network.eval()

    def _dice(self, members: Sequence[FCDenseNet]) -> dict[str, float]:
        """Dice on the selection of each member alone, on average, and of the whole committee on selection and test."""
        own = [committee_dice([member], self.selection) for member in members]
        together = {name: committee_dice(members, outlines)
                    for name, outlines in (("committee", self.selection), ("test", self.test))}  # fmt: skip
        return {"dice_members": float(np.mean(own)), **{f"dice_{name}": value for name, value in together.items()}}

    def _converged(self, figures: Sequence[dict[str, Any]], rest: Sequence[str]) -> bool:
        if not rest or figures[-1]["labels"] >= self.plan.maximum_labels:
            return True
        curve = [entry["dice_committee"] for entry in figures]
        if len(curve) <= self.plan.patience:
            return False
        before = max(curve[: -self.plan.patience])
        return max(curve[-self.plan.patience :]) < before + self.plan.least_gain

    def _ask(self, folder: Path, members: Sequence[FCDenseNet], labelled: Sequence[str], rest: Sequence[str]) -> None:
        """Score every image of the pool once, choose, and put the questions."""
        query = folder / "query.csv"
        if not query.exists():
            strategy = STRATEGIES[self.plan.strategy]
            scorer = Scorer(members, strategy.measures)
            scores = self._scores(folder, scorer, rest)
            count = min(self.plan.per_round, self.plan.maximum_labels - len(labelled))
            seen = self._embeddings(folder, scorer, [*rest, *labelled])
            embeddings, outlined = seen[: len(rest)], seen[len(rest) :]
            pool = Pool(rest, {m: np.array([scores[id_][m] for id_ in rest]) for m in strategy.measures}, embeddings)
            seed = self.plan.seed * 1000 + _number(folder)
            _write_ids(query, strategy.choose(pool, outlined, count, seed=seed))
        questions = []
        for id_ in _read_ids(query):
            frame = self.frame(id_)
            questions.append(Question(id_, frame, suggestion(members, frame, self.plan.size_px)))
        self.oracle.ask(questions)

    def _scores(self, folder: Path, scorer: Scorer, rest: Sequence[str]) -> dict[str, dict[Any, float]]:
        """Scores by id, each written as soon as it is known, so that a killed round goes on with the others."""
        measures = scorer.measures
        if not measures:
            return {}
        path = folder / "scores.csv"
        if not path.exists():
            write_text(path, ",".join(["id", *measures]) + "\n")
        lines = path.read_text().splitlines(keepends=True)
        whole_lines = [line for line in lines if line.endswith("\n")]
        if whole_lines != lines:
            write_text(path, "".join(whole_lines))
        known = {row["id"]: {m: float(row[m]) for m in measures} for row in read_table(path, ["id", *measures])}
        with (
            path.open("a", newline="", buffering=1) as file,
            advancing(folder / "scoring", title=f"{folder.name}, scores", total=len(rest)) as advance,
        ):
            writer = csv.writer(file, lineterminator="\n")
            advance.kept(len(known))
            for number, id_ in enumerate(rest):
                if id_ not in known:
                    found = scorer.scores(network_input(self.frame(id_), self.plan.size_px), seed=number)
                    known[id_] = {m: float(f"{found[m]:.9g}") for m in measures}
                    writer.writerow([id_, *(known[id_][m] for m in measures)])
                    advance(1, doing="scoring")
        return known

    def _embeddings(self, folder: Path, scorer: Scorer, ids: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings (N, K) where the strategy asks for them, each kept as soon as it is known."""
        if not STRATEGIES[self.plan.strategy].embeds:
            return np.zeros((len(ids), 0), np.float32)
        columns: dict[str, Column] = {"embedding": ((scorer.width,), "float32")}
        rows = Rows.make(folder / "embeddings", ids, columns, made_by=folder.name)
        with advancing(folder / "embedding", title=f"{folder.name}, embeddings", total=len(ids)) as advance:
            missing = rows.missing
            advance.kept(len(ids) - len(missing))
            for row in missing:
                embedding = scorer.embedding(network_input(self.frame(ids[row]), self.plan.size_px))
                rows.write(np.array([row]), embedding=embedding[None])
                advance(1, doing="embedding")
        return np.array(rows.columns["embedding"])


def _number(folder: Path) -> int:
    """Of a round."""
    return int(folder.name.rpartition("-")[2])


def _write_ids(path: Path, ids: Sequence[str]) -> None:
    write_table(path, ["id"], ([id_] for id_ in ids))


def _read_ids(path: Path) -> list[str]:
    return [row["id"] for row in read_table(path, ["id"])]
