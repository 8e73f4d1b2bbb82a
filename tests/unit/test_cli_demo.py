"""What the demo shows, and how it says what it is worth."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from boneage.v1 import assessment_pb2, common_pb2, regression_pb2
from services.cli.demo import drawn_samples, headline, own_samples, tables_of
from services.cli.files import InputFile
from services.cli.reading import Ask, Reading
from services.cli.report import Case, RealPerformance, Summary
from services.cli.usage import UsageError


def case(name: str, response: assessment_pb2.AssessResponse | None) -> Case:
    """A drawn phantom of ten years."""
    file = InputFile(Path(name), name, "dicom")
    return Case(name, Reading(file, Ask(), response, "" if response else "the file is empty"), True, 120)


def ok() -> assessment_pb2.AssessResponse:
    """An answer of ten years and three months."""
    return assessment_pb2.AssessResponse(
        status=regression_pb2.ASSESSMENT_STATUS_OK,
        age_months=123, interval_low_months=105, interval_high_months=142, sex=common_pb2.SEX_FEMALE, release="r1",
        stages=assessment_pb2.StageTimes(decode_ms=11, segmentation_ms=222, total_ms=444),
    )  # fmt: skip


def printed(cases: list[Case], width: int) -> str:
    """What a console of that width shows."""
    console = Console(file=io.StringIO(), width=width)
    console.print(*tables_of(cases, width=width))
    return console.file.getvalue()


def test_the_samples_come_in_the_order_of_their_table(tmp_path: Path) -> None:
    """Each with the age that it was drawn for."""
    (tmp_path / "samples.csv").write_text("file,sex,age_months\nz.dcm,male,24\na.dcm,female,180.5\n")
    for name in ("a.dcm", "z.dcm"):
        (tmp_path / name).touch()
    samples = drawn_samples(tmp_path)
    assert [(sample.file.id, sample.true_age_months) for sample in samples] == [("z", 24.0), ("a", 180.5)]
    assert all(sample.drawn_phantom for sample in samples)


def test_missing_samples_are_said_to_be_missing(tmp_path: Path) -> None:
    """A copy of the project without samples does not end in a traceback."""
    with pytest.raises(UsageError, match=r"samples\.csv"):
        drawn_samples(tmp_path)


def test_own_files_are_no_phantoms_and_have_no_true_age(tmp_path: Path) -> None:
    """What nobody knows is not made up."""
    (tmp_path / "mine.png").touch()
    [sample] = own_samples(tmp_path)
    assert (sample.drawn_phantom, sample.true_age_months) == (False, None)


def test_every_row_says_drawn_phantom() -> None:
    """A row cut out of its table still says what it shows; failures have their reason."""
    text = printed([case("one", ok()), case("two", None)], 200)
    rows = [line for line in text.splitlines() if "one" in line or "two" in line]
    assert [row.count("drawn phantom") for row in rows] == [1, 1]
    assert "10 y 3 m" in rows[0]
    assert "8 y 9 m to 11 y 10 m" in rows[0]
    assert "r1" in rows[0]
    assert "222" in rows[0]
    assert "the file is empty" in rows[1]


def test_a_narrow_terminal_gets_two_tables() -> None:
    """Latency has a table of its own, whose rows say drawn phantom too."""
    text = printed([case("one", ok())], 90)
    rows = [line for line in text.splitlines() if "one" in line]
    assert len(rows) == 2
    assert all("drawn phantom" in row for row in rows)
    assert "8 y 9 m to 11 y 10 m" in rows[0]
    assert "222" in rows[1]


def test_the_error_on_real_radiographs_stands_above() -> None:
    """The figure of the card comes before that of the phantoms."""
    text = headline([case("one", ok())], Summary("r1", {}, RealPerformance(8.25, "test part, 885 radiographs")))
    assert "Not a medical device" in text
    assert text.index("real radiographs (test part, 885 radiographs): 8.2 months") < text.index("phantoms below: 3.0")
