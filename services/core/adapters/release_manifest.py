"""The manifest of a release as JSON, `releases/ID.json`, to and from the domain's `Release`; it is checked whole."""

import math
import re
from dataclasses import asdict
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from services.core.domain.contracts import CLASSIFIER, ENHANCER, REGRESSOR, SEGMENTER, SEX_ORDER, Sex
from services.core.domain.gates import GateThresholds, Reason, TypicalityLimit
from services.core.domain.release import ClassCalibration, IntervalCell, Release
from services.core.errors import ReleaseError

RELEASE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Both become parts of paths: only plain names are let in.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


# JSON has no infinity: an open end of a band is null.
Low = Annotated[float, BeforeValidator(lambda v: -math.inf if v is None else v), PlainSerializer(_finite)]
High = Annotated[float, BeforeValidator(lambda v: math.inf if v is None else v), PlainSerializer(_finite)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Cell(_Part):
    sex: Sex
    low_months: Low
    high_months: High
    half_width_months: float = Field(gt=0)
    calibration_images: int = Field(ge=1)


class _Limit(_Part):
    name: str
    minimum: float
    reason: Reason


class _Gates(_Part):
    minimum_contrast: float
    minimum_foreground_fraction: float
    maximum_foreground_fraction: float
    minimum_mask_certainty: float
    typicality: list[_Limit]
    maximum_interval_width_months: float
    maximum_structure_change: float


class _Classes(_Part):
    names: list[Annotated[str, Field(min_length=1)]] = Field(min_length=2)
    temperature: float = Field(gt=0)
    set_probability: float = Field(ge=0, le=1)


class _Manifest(_Part):
    id: Name
    models: dict[Name, Annotated[int, Field(ge=1)]]
    preprocessing_sha256: Digest
    interval_level: float = Field(gt=0, lt=1)
    interval_cells: list[_Cell] = []
    gates: _Gates
    baseline_mae_months: float | None = Field(default=None, gt=0)
    classes: _Classes | None = None
    files: dict[str, Digest] = {}


def release_to_json(release: Release) -> str:
    """The manifest of a release."""
    manifest = _Manifest.model_validate(asdict(release))
    absent = {"interval_cells", "baseline_mae_months"} if release.classes else {"classes"}
    absent |= set() if release.files else {"files"}
    return manifest.model_dump_json(indent=1, exclude=absent) + "\n"


def release_from_json(text: str, *, source: str) -> Release:
    """The release of a manifest. Raises ReleaseError with `source`, the place and the reason of what is wrong."""
    try:
        manifest = _Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ReleaseError(f"{place or 'manifest'}: {first['msg'].lower()}", field=source) from None
    needed = {SEGMENTER, ENHANCER, CLASSIFIER if manifest.classes else REGRESSOR}
    if missing := sorted(needed - set(manifest.models)):
        raise ReleaseError(f"no version of {', '.join(missing)}", field=source)
    if manifest.classes is None:
        _check_ages(manifest, source)
    elif len(set(manifest.classes.names)) < len(manifest.classes.names):
        raise ReleaseError("classes.names: a class is there twice", field=source)
    values: dict[str, Any] = {name: getattr(manifest, name) for name in _Manifest.model_fields}
    if manifest.classes is not None:
        values["classes"] = ClassCalibration(**{**dict(manifest.classes), "names": tuple(manifest.classes.names)})
    values["interval_cells"] = tuple(IntervalCell(**dict(cell)) for cell in manifest.interval_cells)
    limits = tuple(TypicalityLimit(**dict(limit)) for limit in manifest.gates.typicality)
    values["gates"] = GateThresholds(**{**dict(manifest.gates), "typicality": limits})
    release = Release(**values)
    if release.files and set(release.files) != set(release.paths):
        raise ReleaseError("files: they are not those of the versions that it pins", field=source)
    return release


def _check_ages(manifest: _Manifest, source: str) -> None:
    """There is a baseline, and every sex has bands that touch and leave no age out."""
    if manifest.baseline_mae_months is None:
        raise ReleaseError("baseline_mae_months: field required", field=source)
    for sex in SEX_ORDER:
        cells = sorted((c for c in manifest.interval_cells if c.sex == sex), key=lambda cell: cell.low_months)
        edges = [-math.inf, *(cell.high_months for cell in cells)]
        if [cell.low_months for cell in cells] != edges[:-1] or edges[-1] != math.inf:
            raise ReleaseError(f"the intervals for {sex} do not cover every age once", field=source)
