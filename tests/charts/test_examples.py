"""What is installed is what the examples show: a change of a chart is read in them."""

import pytest

from tests.charts.conftest import CHARTS, EXAMPLES, ROOT

ENVIRONMENTS = sorted((ROOT / "deploy/environments").glob("*/values.yaml"))


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_helm_finds_nothing_to_say(helm, chart):
    """`helm lint --strict`, with the defaults and with each example."""
    for case in [None, *(case for owner, case in EXAMPLES if owner == chart)]:
        options = ("--values", case / "values.yaml") if case else ()
        done = helm("lint", "--strict", chart, *options)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("values", ENVIRONMENTS, ids=lambda path: path.parent.name)
def test_values_of_the_environments_are_taken(helm, values):
    """They name only what there is."""
    done = helm("lint", "--strict", CHARTS[0], "--values", values)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("chart", "case"), EXAMPLES, ids=[f"{chart.name}-{case.name}" for chart, case in EXAMPLES])
def test_examples_are_what_helm_makes(render, chart, case):
    """`make charts` would change nothing."""
    folder = case / "rendered"
    stored = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.yaml")}
    fresh = render(chart, case)
    assert sorted(stored) == sorted(fresh)
    assert [name for name in fresh if stored[name] != fresh[name]] == []


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_what_is_rendered_twice_is_the_same(helm, chart):
    """Nothing but the host key is drawn, and nothing depends on the moment."""
    first, second = (helm("template", "boneage", chart).stdout.splitlines() for _ in range(2))
    assert {one.split()[0] for one, other in zip(first, second, strict=True) if one != other} <= {"key:"}
