"""The documentation speaks of what is there: its links lead somewhere, its tables are those of the code."""

import importlib.util
import re
from pathlib import Path

import pytest

from boneage.v1 import (
    assessment_pb2,
    cam_pb2,
    enhancement_pb2,
    model_host_pb2,
    regression_pb2,
    release_pb2,
    segmentation_pb2,
)
from services.cli.commands import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROTOS = (
    assessment_pb2,
    cam_pb2,
    enhancement_pb2,
    model_host_pb2,
    regression_pb2,
    release_pb2,
    segmentation_pb2,
)


@pytest.fixture(scope="module")
def tables():
    """The script that writes the tables."""
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    """Every relative link and picture is a file or folder of this repository."""
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_settings_are_those_of_the_code(tables):
    """`python docs/tables.py` would change nothing."""
    page = (ROOT / "docs" / "operations.md").read_text()
    assert tables.replaced(page, "settings", tables.settings_tables()) == page


@pytest.mark.parametrize("name", ["arrows", "renamed"])
def test_what_is_said_of_the_charts_is_theirs(tables, name):
    """`make charts` would change nothing."""
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    assert tables.replaced(page, name, getattr(tables, f"{name}_table")()) == page


def test_exit_codes_are_those_of_the_jobs(tables):
    """The same for the table of how a job ends."""
    page = (ROOT / "docs" / "training.md").read_text()
    assert tables.replaced(page, "exits", tables.exits_table()) == page


def test_what_a_disturbance_costs_stands_in_the_table(tables):
    """Each but the radiographs as they are, with what was lost and whether that is within bounds."""
    as_it_is = {"n_total": 300, "mae_ungated_months": 7.04, "worse_by": 0, "more_abstained": 0, "kept": True,
                "paired": {"n": 300}}  # fmt: skip
    noise = {"worse_by": 0.26, "more_abstained": 0.04, "kept": False, "paired": {"n": 298},
             "passed": {"n": 278, "mae_months": 8.26, "coverage_90": 0.853}}  # fmt: skip
    lost = {"worse_by": None, "more_abstained": 0.99, "kept": False, "paired": {"n": 0},
            "passed": {"n": 0, "mae_months": None, "coverage_90": None}}  # fmt: skip
    assert tables.disturbances_table({}, "a release") == ""
    where, *table = tables.disturbances_table(
        {"robustness": {"as it is": as_it_is, "noise": noise, "black": lost}}, "a release"
    ).splitlines()
    assert "300 radiographs of the test part, 7.0 months as they are" in where
    rows = [
        "| noise | +26% | 298 | +4% | no | 278 | 8.3 months | 85% |",
        "| black | no number | 0 | +99% | no | 0 | - | - |",
    ]
    assert table[-2:] == rows
    assert len(table) == len(rows) + 3


def test_every_method_is_named():
    """The page on the API names every service and method of the protos."""
    page = (ROOT / "docs" / "api.md").read_text()
    for proto in PROTOS:
        for service in proto.DESCRIPTOR.services_by_name.values():
            assert all(f"`{service.name}` | `{method.name}`" in page for method in service.methods)


def test_every_command_is_named():
    """The README names every command of `boneage`."""
    page = (ROOT / "README.md").read_text()
    assert [c.callback.__name__ for c in app.registered_commands if f"`boneage {c.callback.__name__}" not in page] == []


def test_every_target_of_make_is_there():
    """Pages ask for no target that the Makefile does not have."""
    makefile = (ROOT / "Makefile").read_text()
    text = "\n".join(page.read_text() for page in PAGES)
    asked = set(re.findall(r"(?:`|^    )make ([a-z-]+)", text, re.MULTILINE))
    assert asked >= {"demo", "test", "bench"}
    assert {name for name in asked if f"\n{name}:" not in makefile} == set()


def test_figures_come_from_what_the_benchmarks_wrote(tables):
    """Each figure has a row that names its set."""
    accuracy = {
        "test": {
            "with_sex": {
                "n": 800, "n_ungated": 803, "n_total": 804, "abstained": 4, "mae_ungated_months": 7.96,
                "coverage_90": 0.912, "mae_ungated_months_ci95": [7.5, 8.4], "coverage_90_ci95": [0.89, 0.931],
                "median_interval_months": 31.7,
            }
        },
        "forms": {"with_age": 52, "median_span_months": 0.84, "largest_span_months": 9.96},
        "turns": {
            "upright": {"read": 149, "abstained": 1, "mae_months": 7.7},
            "tilted +15": {"read": 148, "abstained": 2, "mae_months": 7.94},
        },
        "robustness": {
            "as it is": {
                "n_total": 300, "paired": {"n": 299}, "worse_by": 0.0, "more_abstained": 0.0, "kept": True,
            },
            "rotate 90": {
                "n_total": 300, "paired": {"n": 280}, "worse_by": 0.31, "more_abstained": 0.07, "kept": False,
            },
            "black": {"n_total": 300, "paired": {"n": 0}, "worse_by": None, "more_abstained": 1.0, "kept": False},
        },
        "activation": {
            "with_bone": 299, "read": 300, "enrichment": {
                "prevailing": {"mean": 1.934, "ci95": [1.87, 2.0]}, "positive": {"mean": 0.7, "ci95": [0.6, 0.8]},
            },
            "deletion_months": {"by the map": {"20%": 21.4}, "at random": {"20%": 9.6}},
        },
        "no_hands": {
            "noise": {"n": 10, "refused": 10},
            "shuffled_hands": {"n": 99, "refused": 97, "test_part": {"n": 41, "refused": 40}},
        },
    }  # fmt: skip
    rows = list(tables.accuracy_rows(accuracy))
    assert rows[0] == ("MAE, sex known", "8.0 months (7.5 to 8.4)", "803 radiographs of the test part, gates off")
    assert ("abstentions on hands", "4 of 804", "the same") in rows
    values, sets = ({row[0]: row[place] for row in rows} for place in (1, 2))
    assert values["90% interval covers, sex known"] == "91.2% (89.0% to 93.1%), median width 32 months"
    assert values["one hand in several forms"] == "ages lie within 0.8 months (median of hands), at most 10.0"
    assert values["MAE, tilted +15 degrees"] == "7.9 months; upright 7.7"
    told = "those that got a number: 148 of 150 of the test part; upright 149"
    assert sets["MAE, tilted +15 degrees"] == told
    assert values["activation on bone"] == "1.93 times its share of the hand (1.87 to 2.00)"
    assert values["the same, where it raises the age"] == "0.70 times its share of the hand (0.60 to 0.80)"
    assert values["a fifth of the hand blanked"] == "moves the age by 21 months; 10 at random"
    assert values["disturbances"] == "0 of 2 within bounds; not rotate 90, black"
    assert sets["disturbances"] == "300 radiographs of the test part, at least 0 with a number both ways"
    assert rows[-2] == ("refused: noise", "10 of 10", "what is not a hand")
    assert rows[-1][1:] == ("97 of 99", "radiographs not trained on, cut up; of the test part alone 40 of 41")


def test_coverage_has_a_row_for_each_band_of_either_age(tables):
    """Counts, shares with their intervals and widths; nothing is written of a release that was not measured."""
    band = {"low_months": 0, "high_months": 47, "n": 37, "coverage": 0.973, "coverage_ci95": [0.8584, 0.9993],
            "median_interval_months": 30.3}  # fmt: skip
    none = {"low_months": 192, "high_months": None, "n": 0, "coverage": None, "coverage_ci95": None,
            "median_interval_months": None}  # fmt: skip
    record = {"n": 37, "by_predicted_age_band": [band, none], "by_age_band": [band | {"n": 36}, none]}
    head, _, first, last = tables.coverage_table({"test": {"with_sex": record}}, "this one").splitlines()[2:]
    assert head.startswith("| age, months | n by predicted age | covered | median width | n by reference age")
    held = "97.3% (85.8% to 99.9%) | 30 months"
    assert first == f"| 0 to 47 | 37 | {held} | 36 | {held} |"
    assert last == "| 192 and more | 0 | - | - | 0 | - | - |"
    assert tables.coverage_table({}, "no one") == ""


def test_errors_have_a_row_for_each_band_and_sex(tables):
    """Each with its count and interval; a band with no reading has none."""
    band = {"low_months": 0, "high_months": 47, "n": 30, "mae_months": 5.44, "mae_months_ci95": [4.0, 7.1]}
    none = {"low_months": 192, "high_months": None, "n": 0, "mae_months": None, "mae_months_ci95": None}
    record = {"n": 30, "by_age_band": [band, none], "n_male": 30, "mae_male_months": 5.44, "n_female": 0,
              "mae_male_months_ci95": [4.0, 7.1], "mae_female_months": None,
              "mae_female_months_ci95": None}  # fmt: skip
    where, _, _, _, *rows = tables.errors_table({"test": {"with_sex": record}}, "this one").splitlines()
    assert where == "30 radiographs of the test part that got a number from this one, read with their sex:"
    mae = "5.4 (4.0 to 7.1)"
    assert rows == [f"| 0 to 47 | 30 | {mae} |", "| 192 and more | 0 | - |", f"| boys | 30 | {mae} |",
                    "| girls | 0 | - |"]  # fmt: skip
    assert tables.errors_table({}, "no one") == ""
