"""The report: one page that needs nothing else and hides nothing."""

import re
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np

from boneage.v1 import assessment_pb2, common_pb2, regression_pb2
from services.cli.files import InputFile
from services.cli.reading import Ask, Reading
from services.cli.report import Case, RealPerformance, Summary, render, scale_x, write_report

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SUMMARY = Summary("r1", {"boneage_regressor": 3}, RealPerformance(8.25, "test, 885 radiographs"))


def png(*, colour: bool = False) -> bytes:
    """A small picture."""
    shape = (60, 40, 3) if colour else (60, 40)
    picture = np.zeros(shape, np.uint8)
    picture[20:40, 10:30] = 255
    return cv2.imencode(".png", picture)[1].tobytes()


def file(name: str) -> InputFile:
    """A file of that name."""
    return InputFile(Path(name), name, "dicom")


def ok(name: str = "one", *, true_age_months: float | None = 120, drawn_phantom: bool = True) -> Case:
    """A case with a number and all its pictures."""
    artifacts = assessment_pb2.Artifacts(
        radiograph_png=png(), mask_png=png(), enhanced_png=png(), cam_png=png(colour=True)
    )
    response = assessment_pb2.AssessResponse(
        status=regression_pb2.ASSESSMENT_STATUS_OK,
        age_months=123.4, interval_low_months=105, interval_high_months=142,
        sex=common_pb2.SEX_FEMALE, sex_source=assessment_pb2.SEX_SOURCE_HEADER, release="r1", artifacts=artifacts,
        stages=assessment_pb2.StageTimes(decode_ms=11, segmentation_ms=222, total_ms=444),
    )  # fmt: skip
    return Case(name, Reading(file(name), Ask(), response), drawn_phantom, true_age_months)


def abstained() -> Case:
    """A case without a number."""
    response = assessment_pb2.AssessResponse(
        status=regression_pb2.ASSESSMENT_STATUS_ABSTAINED,
        abstention=common_pb2.Abstention(explanation="the mask covers 0.002 of the image"),
        artifacts=assessment_pb2.Artifacts(radiograph_png=png()),
    )
    return Case("two", Reading(file("two"), Ask(), response), drawn_phantom=True)


def failed(reason: str = "the file is empty") -> Case:
    """A case that could not be read."""
    return Case("three", Reading(file("three"), Ask(), None, reason), drawn_phantom=True)


def test_the_page_refers_to_nothing_outside_itself() -> None:
    """No address, script or style sheet is loaded; pictures are inside."""
    page = render([ok(), abstained(), failed()], SUMMARY, now=NOW)
    assert not re.findall(r"<(?:script|link|iframe)|url\(|@import|https?://", page)
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]+)"', page))
    assert page.count("<img") == 5


def test_every_row_of_a_phantom_says_so() -> None:
    """Both the table's rows and the cases name drawn phantoms."""
    page = render([ok("a"), ok("b"), ok("own", drawn_phantom=False)], SUMMARY, now=NOW)
    rows = re.findall(r"<tr>\s*<th scope=\"row\">.*?</tr>", page, re.DOTALL)
    assert ["drawn phantom" in row for row in rows] == [True, True, False]
    assert page.count("Drawn phantom</span>") == 2


def test_the_reading_stands_with_interval_true_age_and_latency() -> None:
    """Numbers come in years and in months."""
    page = render([ok()], SUMMARY, now=NOW)
    for text in ("10 y 3 m", "8 y 9 m \N{EN DASH} 11 y 10 m", "10 y 0 m", "read 3.4 months above", ">222<", ">444<"):
        assert text in page


def test_the_error_on_real_radiographs_and_the_notice_stand_above() -> None:
    """A reader sees what the numbers are worth before the numbers."""
    page = render([ok()], SUMMARY, now=NOW)
    first = page.index("phantom</td>")
    assert -1 < page.index("Not a medical device") < page.index("8.2 <small>") < first
    assert "test, 885 radiographs" in page
    assert "boneage_regressor <b>v3</b>" in page


def test_refusals_and_failures_are_shown_with_their_reason() -> None:
    """What has no number stays on the page."""
    page = render([abstained(), failed("a <b>bad</b> file")], SUMMARY, now=NOW)
    assert "No number was given:</b> the mask covers 0.002 of the image." in page
    assert "a &lt;b&gt;bad&lt;/b&gt; file" in page
    assert "0 read, 1 abstained, 1 failed" in page


def test_every_picture_and_scale_has_words_for_it() -> None:
    """A reader who does not see the pictures gets them in words."""
    page = render([ok()], SUMMARY, now=NOW)
    assert all(re.search(r'alt="[^"]{10,}"', image) for image in re.findall(r"<img[^>]+>", page))
    assert 'role="img" aria-label="Age scale from 0 to 19 years. Read 10 y 3 m, 90% interval' in page


def test_ages_off_the_scale_lie_at_its_end() -> None:
    """An interval that reaches past nineteen years stays on the page."""
    assert scale_x(-5) == scale_x(0) < scale_x(114) < scale_x(228) == scale_x(400)


def test_the_page_is_written_whole(tmp_path: Path) -> None:
    """Nothing but the report is left in the folder."""
    write_report(tmp_path / "deep" / "report.html", [ok()], SUMMARY, now=NOW)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["report.html"]
