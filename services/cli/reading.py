"""What became of one radiograph: the request that is sent, the answer or the failure, and its record for the user."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from boneage.v1 import assessment_pb2, common_pb2, regression_pb2
from services.cli.files import InputFile
from services.core.adapters.wire import SEX_FROM_WIRE, SEX_TO_WIRE, classes_from_wire
from services.core.domain.contracts import Sex
from services.core.domain.reading import Classes

Status = Literal["OK", "ABSTAINED", "FAILED"]
Record = dict[str, object]

SOURCES: Final[Mapping[int, str]] = {
    assessment_pb2.SEX_SOURCE_REQUEST: "flag",
    assessment_pb2.SEX_SOURCE_HEADER: "header",
    assessment_pb2.SEX_SOURCE_NONE: "none",
}
STATUSES: Final[Mapping[int, Status]] = {
    regression_pb2.ASSESSMENT_STATUS_OK: "OK",
    regression_pb2.ASSESSMENT_STATUS_ABSTAINED: "ABSTAINED",
}
STAGES: Final = ("decode", "segmentation", "enhancement", "regression", "cam", "total")


@dataclass(frozen=True, slots=True)
class Ask:
    """How radiographs are to be read; `sex` None leaves it to the header."""

    sex: Sex | None = None
    artifacts: bool = False
    ungated: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """One file with its answer, or with the reason why there is none."""

    file: InputFile
    ask: Ask
    response: assessment_pb2.AssessResponse | None
    failure: str = ""

    @property
    def status(self) -> Status:
        """OK with a number, ABSTAINED without one, FAILED where the file could not be read or the call failed."""
        return "FAILED" if self.response is None else STATUSES[self.response.status]

    @property
    def reason(self) -> str | None:
        """Why there is no number; None where there is one."""
        if self.response is None:
            return self.failure
        return None if self.status == "OK" else self.response.abstention.explanation

    @property
    def age_months(self) -> float | None:
        """Bone age in months where the status is OK and the release reads ages."""
        if self.response is None or not self.response.HasField("age_months"):
            return None
        return self.response.age_months

    @property
    def ungated_age_months(self) -> float | None:
        """Bone age in months whatever the gates said, where it was asked for and there is a hand to read."""
        if self.response is None or not self.response.HasField("ungated_age_months"):
            return None
        return self.response.ungated_age_months

    @property
    def classes(self) -> Classes:
        """Classes with their probabilities where the status is OK and the release tells classes apart."""
        return classes_from_wire(self.response.class_probabilities) if self.response is not None else ()

    @property
    def class_set(self) -> tuple[str, ...]:
        """Names of the classes in the set that holds the true one in 90% of radiographs."""
        return tuple(c.name for c in self.classes if c.in_set)

    @property
    def interval_months(self) -> tuple[float, float] | None:
        """The calibrated 90% interval in months where there is an age."""
        if self.response is None or self.age_months is None:
            return None
        return self.response.interval_low_months, self.response.interval_high_months

    @property
    def sex(self) -> Sex:
        """The sex it was read with."""
        if self.response is None:
            return self.ask.sex or "unknown"
        return SEX_FROM_WIRE.get(self.response.sex, "unknown")

    @property
    def sex_source(self) -> str:
        """Where the sex came from: flag, header or none."""
        if self.response is None:
            return "flag" if self.ask.sex else "none"
        return SOURCES.get(self.response.sex_source, "none")

    @property
    def stages_ms(self) -> dict[str, float]:
        """Milliseconds by stage; empty where there is no answer."""
        if self.response is None:
            return {}
        return {stage: round(getattr(self.response.stages, f"{stage}_ms"), 1) for stage in STAGES}

    def record(self) -> Record:
        """The reading as one JSON object; `age_months` and the interval are null unless the status is OK.

        A release that tells classes apart gives `classes` in their place.
        """
        low, high = self.interval_months or (None, None)
        record: Record = {
            "path": str(self.file.path),
            "status": self.status,
            "age_months": _rounded(self.age_months),
            "interval_low_months": _rounded(low),
            "interval_high_months": _rounded(high),
            "sex": self.sex,
            "sex_source": self.sex_source,
            "release": self.response.release if self.response is not None else None,
            "reason": self.reason,
            "quarter_turns": self.response.quarter_turns if self.response is not None else None,
            "negative": self.response.negative if self.response is not None else None,
            "stages_ms": self.stages_ms,
        }
        if self.classes:
            record["classes"] = {
                c.name: {"probability": _rounded(c.probability), "in_set": c.in_set} for c in self.classes
            }
        return record


def request_for(
    file: InputFile, content: bytes, ask: Ask, true_size: tuple[int, int] | None
) -> assessment_pb2.AssessRequest:
    """The request for one file; `true_size` is its height and width at acquisition where they are known."""
    dicom = file.kind == "dicom"
    radiograph = common_pb2.Radiograph(dicom=content) if dicom else common_pb2.Radiograph(encoded=content)
    if true_size:
        radiograph.true_size.height, radiograph.true_size.width = true_size
    return assessment_pb2.AssessRequest(
        radiograph=radiograph,
        sex=SEX_TO_WIRE[ask.sex] if ask.sex else common_pb2.SEX_UNSPECIFIED,
        include_artifacts=ask.artifacts,
        report_ungated=ask.ungated,
    )


def years_and_months(age_months: float) -> str:
    """An age as a reader says it: `10 y 3 m`."""
    years, months = divmod(round(age_months), 12)
    return f"{years} y {months} m"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
