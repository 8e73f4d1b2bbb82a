"""Who outlines what is asked: one interface, whether the answer is there at once or comes days later."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.core.domain.metrics import dice
from services.core.domain.preprocess import resize
from services.core.errors import InvalidRadiographError
from training.data.radiographs import image_files, read_pixels
from training.run.exits import BadConfigurationError
from training.run.results import write_picture

Mask = NDArray[np.bool_]
SKIPPED: Final = ".skipped"
"""Of an empty file in place of an answer's picture: there is nothing to outline."""


@dataclass(frozen=True, slots=True)
class Question:
    """A radiograph (H, W) in [0, 1] that needs an outline, and the committee's own (H, W) to begin with."""

    id: str
    frame: NDArray[np.float32]
    suggestion: Mask


@dataclass(frozen=True, slots=True)
class Answer:
    """An outline (H, W), from how many annotators, and the mean Dice of each two of them (1 where there is one)."""

    mask: Mask
    annotators: int = 1
    agreement: float = 1.0


Answers: TypeAlias = dict[str, Answer | None]
"""By id; None where people say that there is nothing to outline."""


class Oracle(Protocol):
    """Answers questions, at once or some day."""

    def ask(self, questions: Sequence[Question]) -> None:
        """Put the questions; those that were put before are not put again."""

    def answers(self, ids: Sequence[str]) -> Answers:
        """The answers that are there. Raises BadConfigurationError where one cannot be used."""


def same_size(mask: Mask, like: Mask) -> Mask:
    """A mask at the size of another."""
    if mask.shape == like.shape:
        return mask
    return np.asarray(resize(mask, height=like.shape[0], width=like.shape[1]) >= 0.5, np.bool_)


def merged(masks: Sequence[Mask]) -> Answer:
    """One outline of several annotators': what more than half of them, or half with an even number, have covered.

    It has the size of the first; the others are brought to that.
    """
    masks = [same_size(mask, masks[0]) for mask in masks]
    agreements = [dice(one, other) for one, other in combinations(masks, 2)]
    covered = np.mean(np.stack(masks), axis=0) >= 0.5
    return Answer(covered, len(masks), float(np.mean(agreements)) if agreements else 1.0)


def answer_of(masks: Sequence[Mask], *, skipped: int) -> Answer | None:
    """What those who were asked say together; None where more of them have skipped the question than outlined."""
    return None if skipped > len(masks) else merged(masks)


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """A simulation: outlines that are there already, in `masks`/ID.png, are given when they are asked for."""

    masks: Path
    kind: Literal["ground_truth"] = "ground_truth"

    def ask(self, questions: Sequence[Question]) -> None:
        """Nothing has to be done."""

    def answers(self, ids: Sequence[str]) -> Answers:
        """All of them. Raises BadConfigurationError where one is missing."""
        files = image_files(self.masks)
        if missing := [id_ for id_ in ids if id_ not in files]:
            raise BadConfigurationError(f"{self.masks} has no outline of {', '.join(missing[:5])}")
        return {id_: Answer(read_outline(files[id_])) for id_ in ids}


@dataclass(frozen=True, slots=True)
class Beginning:
    """What is outlined already, `given` in `masks`/ID.png, needs nobody; all else is asked of `others`."""

    masks: Path
    given: frozenset[str]
    others: Oracle

    def ask(self, questions: Sequence[Question]) -> None:
        """Put those that nobody has answered."""
        if unknown := [question for question in questions if question.id not in self.given]:
            self.others.ask(unknown)

    def answers(self, ids: Sequence[str]) -> Answers:
        """What is given, and those of the others that are there."""
        unknown = [id_ for id_ in ids if id_ not in self.given]
        known = GroundTruth(self.masks).answers([id_ for id_ in ids if id_ in self.given])
        return known | (self.others.answers(unknown) if unknown else {})


@dataclass(frozen=True, slots=True)
class Folder:
    """People with any drawing program: `folder`/questions/ID.png and ID.suggestion.png go out, answers/ID.png come in.

    Several annotators have a folder each: answers/NAME/ID.png. Black is background, everything else is hand. Who sees
    nothing to outline puts an empty file ID.skipped in place of the picture; beside one it says nothing.
    """

    folder: Path
    annotators: int = 1
    kind: Literal["folder"] = "folder"

    def ask(self, questions: Sequence[Question]) -> None:
        """Write those files that are not there."""
        for name in ("questions", "answers"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for question in questions:
            for suffix, picture in (("", question.frame), (".suggestion", question.suggestion)):
                path = self.folder / "questions" / f"{question.id}{suffix}.png"
                if not path.exists():
                    write_picture(path, np.rint(picture * np.float32(255)).astype(np.uint8))

    def answers(self, ids: Sequence[str]) -> Answers:
        """Those that as many annotators as are wanted have given."""
        root = self.folder / "answers"
        folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())] if root.is_dir() else []
        files = {folder: image_files(folder) for folder in folders}
        result: Answers = {}
        for id_ in ids:
            paths = [files_of[id_] for files_of in files.values() if id_ in files_of]
            skipped = sum((folder / f"{id_}{SKIPPED}").exists() for folder in folders if id_ not in files[folder])
            if len(paths) + skipped >= self.annotators:
                result[id_] = answer_of([read_outline(path) for path in paths], skipped=skipped)
        return result


def read_outline(path: Path) -> Mask:
    """A mask (H, W) from a file. Raises BadConfigurationError where there is none in it."""
    try:
        mask = read_pixels(path) > 0
    except InvalidRadiographError as error:
        raise BadConfigurationError(f"{path}: {error}") from error
    if not mask.any() or mask.all():
        raise BadConfigurationError(f"{path}: the outline covers {'everything' if mask.any() else 'nothing'}")
    return mask


def on_frame(answer: Answer, frame: NDArray[np.float32]) -> Mask:
    """An answer's outline at the size of its frame."""
    return same_size(answer.mask, np.zeros(frame.shape, np.bool_))
