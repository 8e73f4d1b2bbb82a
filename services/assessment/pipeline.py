"""Runs the stages in order on one radiograph, under one release and one deadline; an abstention ends the chain."""

from dataclasses import dataclass

from services.assessment.pictures import Painter, Picture, Pictures, grey_levels
from services.assessment.ports import Answer, Found, Prepared, Read, Stages
from services.assessment.stopwatch import Stopwatch
from services.core.domain.contracts import Sex
from services.core.domain.gates import Abstention
from services.core.domain.geometry import scale_square
from services.core.domain.preprocess import Image, Square, to_frame
from services.core.domain.reading import ModelVersion
from services.core.runtime.deadlines import Deadline


@dataclass(frozen=True, slots=True)
class Ask:
    """How a radiograph is to be assessed; an empty release asks for the current one."""

    sex: Sex
    release: str
    ungated: bool


@dataclass(frozen=True, slots=True)
class Radiograph:
    """What the chain keeps of a radiograph: its frame, its height and width, its pixels only where it is drawn on."""

    frame: Image
    shape: tuple[int, int]
    picture: Picture | None


@dataclass(frozen=True, slots=True)
class Assessment:
    """The answer; `crop` is in the pixels of the radiograph that was sent."""

    answer: Answer | None
    abstention: Abstention | None
    crop: Square | None
    foreground_fraction: float
    enhanced: bool
    negative: bool
    quarter_turns: int
    ungated_age_months: float | None
    pictures: Pictures | None
    models: tuple[ModelVersion, ...]
    release: str


def prepare(pixels: Image, true_shape: tuple[int, int] | None, *, keep_picture: bool) -> Radiograph:
    """Reduce (H, W) pixels in [0, 1] to what the chain needs."""
    shape = pixels.shape[0], pixels.shape[1]
    frame = to_frame(pixels, true_shape=true_shape)
    return Radiograph(frame, shape, grey_levels(pixels) if keep_picture else None)


class AssessmentPipeline:
    """The chain: segmentation, enhancement, regression, and the explanation where pictures are asked for."""

    def __init__(self, stages: Stages, painter: Painter) -> None:
        self._stages = stages
        self._painter = painter

    async def assess(self, radiograph: Radiograph, ask: Ask, *, deadline: Deadline, watch: Stopwatch) -> Assessment:
        """Assess one radiograph; raises the error of whichever stage failed."""
        with watch.stage("segmentation"):
            found = await self._stages.segment(radiograph.frame, release=ask.release, deadline=deadline)
        prepared, read = None, None
        if found.crop is not None and (found.abstention is None or ask.ungated):
            with watch.stage("enhancement"):
                prepared = await self._stages.enhance(
                    radiograph.frame, found.mask, release=found.release, deadline=deadline
                )
            with watch.stage("regression"):
                read = await self._stages.read(
                    prepared.hand, sex=ask.sex, ungated=ask.ungated, release=found.release, deadline=deadline
                )
        answer = read.answer if read and found.abstention is None else None
        pictures = await self._draw(radiograph.picture, found, prepared, answer, deadline, watch)
        return Assessment(
            answer=answer,
            abstention=found.abstention or (read.abstention if read else None),
            crop=_crop(radiograph, found, prepared),
            foreground_fraction=found.foreground_fraction,
            enhanced=prepared.enhanced if prepared else False,
            negative=prepared.negative if prepared else False,
            quarter_turns=read.quarter_turns if read else 0,
            ungated_age_months=read.ungated_age_months if read else None,
            pictures=pictures,
            models=_models(found, prepared, read),
            release=found.release,
        )

    async def _draw(
        self,
        picture: Picture | None,
        found: Found,
        prepared: Prepared | None,
        answer: Answer | None,
        deadline: Deadline,
        watch: Stopwatch,
    ) -> Pictures | None:
        if picture is None:
            return None
        cam_png = b""
        if prepared is not None and answer is not None:
            with watch.stage("cam"):
                cam_png = await self._painter.explain(picture, found, prepared, answer, deadline=deadline)
        return await self._painter.draw(picture, found, prepared, cam_png)


def _crop(radiograph: Radiograph, found: Found, prepared: Prepared | None) -> Square | None:
    """What was read, or would have been, in the pixels that were sent."""
    square = prepared.crop if prepared else found.crop
    frame = radiograph.frame.shape[0], radiograph.frame.shape[1]
    return square and scale_square(square, source=frame, target=radiograph.shape)


def _models(*stages: Found | Prepared | Read | None) -> tuple[ModelVersion, ...]:
    return tuple(stage.model for stage in stages if stage is not None)
