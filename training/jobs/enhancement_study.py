"""What enhancement is worth, against none and CLAHE: `python -m training.jobs.enhancement_study --config FILE`.

Restoration of degraded hands, contrast of bone against the tissue around it, steadiness, the regressor's error, and
what the gate on structure sees of bones that were planted or erased. Nothing is read of the test part.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from services.core.adapters.model_repository import preprocessing_sha256
from services.core.domain.contracts import SEX_ORDER
from services.core.errors import InvalidRadiographError
from training.data.radiographs import Dataset, Radiograph, image_files, report_missing, sex_columns
from training.data.rows import Rows
from training.data.split import Part
from training.enhancement.degrade import KINDS
from training.enhancement.hands import load_segmenter, masking_sha256
from training.enhancement.methods import Methods, trained_for
from training.enhancement.planted import DIAMETERS_PX, detection
from training.evaluation.enhancement import compare, compare_hands, draw_sheet, write_report
from training.evaluation.enhancement_measures import CHANGES, HandMeasures, RegionMeasures, Values, degraded
from training.evaluation.gate_figures import AS_SERVED, AT_FALSE_ALARMS, gate_figures
from training.jobs.command import JobConfig, command
from training.publish.reader import Member, read_reader
from training.run.advance import Advance, advancing
from training.run.claim import alone
from training.run.exits import BadConfigurationError
from training.run.results import write_json, write_table
from training.transfer.target import AgeTarget

PART: Final = "validation"
MAPPED: Final[tuple[Part, ...]] = ("validation", "calibration")
"""Of these the maps are: too few of PART alone have one, and what was trained on is not measured on."""
FAILURES_CSV: Final = "failures.csv"
GATE: Final = "gate.json"
EXAMPLES: Final = 6

Image = NDArray[np.float32]


class EnhancementStudyConfig(JobConfig):
    """Everything the study depends on. `regions` holds ID.png: 1 articular region, 2 ossified epiphyses and carpals.

    `enhancers` names weights to compare; each is applied as it is, and as it is served, with the gate's `limit`. Every
    model is the `weights.pt` of a run, or the `model.onnx` of a published version.
    """

    dataset: Dataset
    hands: Path
    segmenter: Path
    enhancers: dict[str, Path]
    regressor: Path
    backbone: str
    regions: Path
    limit: float = Field(gt=0, le=1)
    images: int = Field(ge=4)
    variants: int = Field(4, ge=2)
    region_images: int = Field(ge=4)
    seed: int
    out: Path


@dataclass(frozen=True, slots=True)
class Hands:
    """The prepared hands that are measured, with the row and the age of each in months."""

    radiographs: list[Radiograph]
    ages: list[float]
    rows: list[int]
    prepared: Rows

    def image(self, place: int) -> Image:
        """One hand (S, S) in [0, 1]."""
        hand: NDArray[np.uint8] = self.prepared.columns["segmented"][self.rows[place]]
        return hand.astype(np.float32) / np.float32(255)


@dataclass(frozen=True, slots=True)
class Measuring:
    """Fills rows, one radiograph after the other, notes those that cannot be used, and logs how far it has come."""

    advance: Advance
    failures: list[tuple[str, str]] = field(default_factory=list)

    def fill(self, rows: Rows, measure: Callable[[int], Values], logged: str, methods: Sequence[str]) -> None:
        """Measure what is missing; `logged` is a column with a row for each method. Raises Interrupted."""
        for place in map(int, rows.missing):
            figures: dict[str, float] = {}
            try:
                values = measure(place)
            except (InvalidRadiographError, BadConfigurationError, OSError) as error:
                self.failures.append((rows.ids[place], str(error)))
            else:
                rows.write(np.array([place]), **{name: value[None] for name, value in values.items()})
                means = values[logged].reshape(len(methods), -1).mean(axis=1)
                figures = {f"{logged} {name}": float(mean) for name, mean in zip(methods, means, strict=True)}
            self.advance(1, failed=len(self.failures), **figures)


def run(config: EnhancementStudyConfig) -> None:
    """Measure what is missing, then write `report.md`, its pictures, `figures.json`, `gate.json` and `failures.csv`."""
    cv2.setNumThreads(1)
    with alone(config.out):
        _measure(config)


def _measure(config: EnhancementStudyConfig) -> None:
    methods = Methods.load(config.enhancers, config.limit)
    reader = read_reader([Member(config.backbone, [config.regressor])], AgeTarget(), np.arange(len(SEX_ORDER)))
    segmenter = load_segmenter(config.segmenter)
    radiographs = config.dataset.read()
    hands, absent = _hands(config, radiographs)
    sexes = sex_columns(hands.radiographs).tolist()
    maps = image_files(config.regions)
    labelled = _labelled(config, radiographs, maps)
    of_hands = HandMeasures(methods, reader, config.variants, config.seed)
    of_regions = RegionMeasures(methods, segmenter, maps, config.seed)
    maker = _made_with(config, hands.prepared)
    restored = Rows.make(config.out / "hands", [r.id for r in hands.radiographs], of_hands.columns, made_by=maker)
    mapped = Rows.make(config.out / "regions", [r.id for r in labelled], of_regions.columns, made_by=maker)

    def hand(place: int) -> Values:
        return of_hands.of(hands.image(place), place, age_months=hands.ages[place], sex=sexes[place])

    def region(place: int) -> Values:
        return of_regions.of(labelled[place], place)

    total = len(restored.ids) + len(mapped.ids)
    with advancing(config.out, title="enhancement", total=total) as advance:
        advance.kept(int(restored.done.sum() + mapped.done.sum()))
        measuring = Measuring(advance)
        measuring.fill(restored, hand, "psnr_db", methods.names)
        measuring.fill(mapped, region, "contrast_to_noise", methods.names)
    report_missing("could not be measured", [id_ for id_, _ in measuring.failures], of=total)
    failures = [*absent, *measuring.failures]
    write_table(config.out / FAILURES_CSV, ("id", "reason"), failures)
    if empty := [rows.folder.name for rows in (restored, mapped) if not rows.done.any()]:
        raise BadConfigurationError(f"none of the {' and '.join(empty)} can be used: see {config.out / FAILURES_CSV}")
    figures = _figures(config, methods, restored, mapped) | {"left_out": len(failures)}
    write_json(config.out / "figures.json", figures, indent=1)
    write_json(config.out / GATE, figures["gate"], indent=1)
    _draw(config, methods, hands)
    write_report(config.out, figures, part=PART)


def _hands(config: EnhancementStudyConfig, radiographs: Sequence[Radiograph]) -> tuple[Hands, list[tuple[str, str]]]:
    """The hands that are drawn, and which were not prepared."""
    prepared = Rows.read(config.hands)
    of_part = [radiograph for radiograph in radiographs if radiograph.part == PART]
    rows = prepared.find([radiograph.id for radiograph in of_part])
    absent = [(r.id, f"is not in {config.hands}") for r, row in zip(of_part, rows, strict=True) if row < 0]
    report_missing(f"are not in {config.hands}", [id_ for id_, _ in absent], of=len(of_part))
    there = np.flatnonzero(rows >= 0)
    if len(there) < config.images:
        raise BadConfigurationError(f"{config.hands} holds {len(there)} of the {PART} part, not {config.images}")
    chosen = np.random.default_rng(config.seed).permutation(there)[: config.images]
    drawn = [of_part[int(index)] for index in chosen]
    return Hands(drawn, [_age(config, r) for r in drawn], rows[chosen].tolist(), prepared), absent


def _age(config: EnhancementStudyConfig, radiograph: Radiograph) -> float:
    try:
        return AgeTarget().number(radiograph.label)
    except ValueError as error:
        raise BadConfigurationError(f"{config.dataset.labels}: {radiograph.id}: {error}") from error


def _labelled(
    config: EnhancementStudyConfig, radiographs: Sequence[Radiograph], maps: Mapping[str, Path]
) -> list[Radiograph]:
    """The radiographs with a map that are drawn, of those that nothing was trained on."""
    usable = [r for r in radiographs if r.id in maps and r.part in MAPPED]
    if not usable:
        raise BadConfigurationError(f"{config.regions} has no map of a radiograph of the {' or '.join(MAPPED)} part")
    report_missing("have a map and are not in the dataset", sorted(maps.keys() - {r.id for r in radiographs}),
                   of=len(maps))  # fmt: skip
    order = np.random.default_rng(config.seed).permutation(len(usable))[: config.region_images]
    return [usable[int(index)] for index in order]


def _made_with(config: EnhancementStudyConfig, prepared: Rows) -> str:
    """SHA-256 of all that a row depends on beside the code and the radiographs."""
    weights = config.segmenter, config.regressor, *config.enhancers.values()
    tables = [path for path in (config.dataset.labels, config.dataset.sizes, config.dataset.split) if path]
    maps = sorted(image_files(config.regions).items())
    digests = [sha256(path.read_bytes()).hexdigest() for path in (*weights, *tables, *(path for _, path in maps))]
    fields = config.model_dump(mode="json", include={"backbone", "limit", "variants", "seed"})
    whole = [fields, list(config.enhancers), digests, prepared.made_by, preprocessing_sha256(), masking_sha256()]
    return sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _figures(config: EnhancementStudyConfig, methods: Methods, restored: Rows, mapped: Rows) -> dict[str, Any]:
    """All figures, from the rows that are there."""
    hands, regions = ({name: column[rows.done] for name, column in rows.columns.items()} for rows in (restored, mapped))
    limits = {AT_FALSE_ALARMS: None, AS_SERVED: config.limit}
    changed = {
        (kind, px): values[~np.isnan(values)]
        for kind in CHANGES
        for px, values in zip(DIAMETERS_PX, regions[kind].T, strict=True)
        if not np.isnan(values).all()
    }
    found = {name: detection(regions["allowed"], changed, limit=limit) for name, limit in limits.items()}
    return {
        "hands": len(hands["psnr_db"]),
        "variants": config.variants,
        "trained_for": {name: trained_for(weights) for name, weights in config.enhancers.items()},
        **compare_hands(hands, methods.names, methods.pairs, variants=config.variants),
        "contrast_to_noise": compare(regions["contrast_to_noise"], methods.names, methods.pairs),
        "gate": gate_figures(found, config.enhancers, limit=config.limit, hands=len(regions["allowed"])),
        "mapped": list(MAPPED),
    }


def _draw(config: EnhancementStudyConfig, methods: Methods, hands: Hands) -> None:
    """Some hands in a draw of all degradations at once, and the first in each kind alone."""
    chosen = np.stack([hands.image(place) for place in range(min(EXAMPLES, len(hands.rows)))])
    changed = [degraded(hand, place, variants=1, seed=config.seed) for place, hand in enumerate(chosen)]
    draw_sheet(methods(np.stack([images[0] for images in changed])), chosen, config.out / "examples.png")
    alone = changed[0][1:]
    first = np.repeat(chosen[:1], len(alone), axis=0)
    draw_sheet(methods(alone), first, config.out / "kinds.png", heads=list(KINDS))


if __name__ == "__main__":
    command(EnhancementStudyConfig, run, __doc__)
