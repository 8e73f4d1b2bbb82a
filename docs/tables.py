"""Writes the tables of the documentation: settings from their classes, what is of the charts, figures as measured.

    python docs/tables.py [--accuracy FILE.json] [--speed FILE.json] [--full FILE.json]

Settings in docs/operations.md and what docs/kubernetes.md takes from the charts are written always; the figures in
README.md from what `make bench` wrote, those in docs/evaluation.md (`--full`) from what it wrote for the full release.
The error by age and sex, how often intervals hold, and what disturbances cost is in docs/evaluation.md for both.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic_core import PydanticUndefined

from services.core.runtime.settings import EMBEDDED_REPOSITORY, GROUPS, PREFIX, Settings
from training.run.exits import MEANINGS

ROOT: Final = Path(__file__).parents[1]
OPERATIONS: Final = ROOT / "docs" / "operations.md"
KUBERNETES: Final = ROOT / "docs" / "kubernetes.md"
ARROWS: Final = ROOT / "charts" / "boneage" / "arrows.yaml"
RENAMED: Final = ROOT / "charts" / "boneage" / "renamed.yaml"
README: Final = ROOT / "README.md"
TRAINING: Final = ROOT / "docs" / "training.md"
EVALUATION: Final = ROOT / "docs" / "evaluation.md"
FIGURES: Final = "figure", "value", "measured on"
READINGS: Final = ("with_sex", "sex known"), ("sex_unknown", "sex unknown")
SEXES: Final = ("boys", "male"), ("girls", "female")
ERRORS: Final = "reference age, months, or sex", "n", "MAE, months"
COVERAGE: Final = (
    "age, months", "n by predicted age", "covered", "median width", "n by reference age", "covered", "median width",
)  # fmt: skip
DISTURBANCES: Final = (
    "disturbance", "MAE worse by", "of", "more abstained", "within bounds", "still get a number", "MAE of these",
    "their intervals cover",
)  # fmt: skip
Row = tuple[str, ...]


def settings_tables() -> str:
    """A table for each group of settings."""
    return "\n\n".join(_group(group) for group in GROUPS)


def _group(group: type[Settings]) -> str:
    rows = [
        (
            f"`{PREFIX}{name.upper()}`",
            _default(name, field.default, required=field.is_required()),
            field.description or "",
        )
        for name, field in group.model_fields.items()
    ]
    return f"{group.__doc__}\n\n" + markdown(("setting", "default", "what and why"), rows)


def _default(name: str, value: object, *, required: bool) -> str:
    if required:
        return "required"
    if value is PydanticUndefined:
        return "all cores" if name == "onnx_threads" else "computed"
    if value == EMBEDDED_REPOSITORY:
        return f"`{EMBEDDED_REPOSITORY.relative_to(ROOT)}`"
    return "none" if value in (None, "") else f"`{value}`"


def arrows_table() -> str:
    """Who may call whom, and why; with no port, on any."""
    head, *rows = [
        ("from", "to", "port", "why"),
        *(
            (f"`{arrow['from']}`", f"`{arrow['to']}`", str(arrow.get("port", "any")), arrow["why"])
            for arrow in yaml.safe_load(ARROWS.read_text())["arrows"]
        ),
    ]
    return markdown(head, rows)


def renamed_table() -> str:
    """Values of the charts that have another name now, and why."""
    names = yaml.safe_load(RENAMED.read_text())
    rows = [(name["chart"], f"`{name['old']}`", f"`{name['new']}`", name["why"]) for name in names]
    return markdown(("chart", "old", "new", "why"), rows)


def exits_table() -> str:
    """How a training job ends."""
    rows = [(str(int(code)), code.outcome, meaning) for code, meaning in MEANINGS.items()]
    return markdown(("exit code", "outcome", "meaning"), rows)


def accuracy_rows(accuracy: dict[str, Any]) -> Iterator[Row]:
    """Rows of the README from `benchmarks.accuracy`."""
    yield from read_rows(accuracy.get("test", {}))
    yield from robustness_rows(accuracy)
    if masks := accuracy.get("masks"):
        value = f"Dice {masks['dice_mean']:.3f}, at least {masks['dice_min']:.3f}"
        yield "outline of the hand", value, f"{masks['n']} hands outlined by people, never trained on"
    if maps := accuracy.get("activation"):
        where = f"{maps['with_bone']} radiographs with labelled ossification regions, never trained on"
        for name, title in (("prevailing", "activation on bone"), ("positive", "the same, where it raises the age")):
            times, (low, high) = maps["enrichment"][name]["mean"], maps["enrichment"][name]["ci95"]
            yield title, f"{times:.2f} times its share of the hand ({low:.2f} to {high:.2f})", where
        by_map, at_random = (maps["deletion_months"][order]["20%"] for order in ("by the map", "at random"))
        where = f"{maps['read']} radiographs, never trained on"
        yield "a fifth of the hand blanked", f"moves the age by {by_map:.0f} months; {at_random:.0f} at random", where
    if regions := accuracy.get("regions"):
        where = f"{regions['n']} radiographs with labelled ossification regions"
        value = f"at least 99% of their area, in {regions['inside_99_share']:.1%} of radiographs"
        yield "ossification regions inside the outline", value, where
    for name, group in accuracy.get("no_hands", {}).items():
        where = "what is not a hand"
        if alone := group.get("test_part"):
            where = f"radiographs not trained on, cut up; of the test part alone {alone['refused']} of {alone['n']}"
        yield f"refused: {name.replace('_', ' ')}", f"{group['refused']} of {group['n']}", where


def read_rows(test: dict[str, Any]) -> Iterator[Row]:
    """How well the test part is read, with and without the sex."""
    for name, title in READINGS:
        if record := test.get(name):
            low, high = record["mae_ungated_months_ci95"]
            value = f"{record['mae_ungated_months']:.1f} months ({low:.1f} to {high:.1f})"
            count = record.get("n_ungated", record["n_total"])
            yield f"MAE, {title}", value, f"{count} radiographs of the test part, gates off"
    for name, title in READINGS:
        if record := test.get(name):
            low, high = record["coverage_90_ci95"]
            held = f"{record['coverage_90']:.1%} ({low:.1%} to {high:.1%})"
            value = f"{held}, median width {record['median_interval_months']:.0f} months"
            yield f"90% interval covers, {title}", value, f"{record['n']} of the same that got a number"
    if record := test.get("with_sex"):
        yield "abstentions on hands", f"{record['abstained']} of {record['n_total']}", "the same"


def robustness_rows(accuracy: dict[str, Any]) -> Iterator[Row]:
    """What turning, storing and disturbing a radiograph does to its reading."""
    if forms := accuracy.get("forms"):
        median, largest = forms["median_span_months"], forms["largest_span_months"]
        value = f"ages lie within {median:.1f} months (median of hands), at most {largest:.1f}"
        where = f"{forms['with_age']} hands as JPEG of 299 px, larger PNG and four kinds of DICOM of that, sex unknown"
        yield "one hand in several forms", value, where
    for name, record in accuracy.get("turns", {}).items():
        if name.startswith("tilted"):
            upright = accuracy["turns"]["upright"]
            value = f"{record['mae_months']:.1f} months; upright {upright['mae_months']:.1f}"
            of = record["read"] + record["abstained"]
            where = f"those that got a number: {record['read']} of {of} of the test part; upright {upright['read']}"
            yield f"MAE, {name} degrees", value, where
    if disturbed := accuracy.get("robustness"):
        lost = [name for name, record in disturbed.items() if not record["kept"]]
        value = f"{len(disturbed) - 1 - len(lost)} of {len(disturbed) - 1} within bounds"
        paired = min(record["paired"]["n"] for record in disturbed.values())
        count = disturbed["as it is"]["n_total"]
        having = "all" if paired == count else f"at least {paired}"
        where = f"{count} radiographs of the test part, {having} with a number both ways"
        yield "disturbances", f"{value}; not {', '.join(lost)}" if lost else value, where


def disturbances_table(accuracy: dict[str, Any], release: str) -> str:
    """What each disturbance costs a release; nothing where it is not known."""
    if not (disturbed := accuracy.get("robustness")):
        return ""
    before = disturbed["as it is"]
    where = f"{before['n_total']} radiographs of the test part, {before['mae_ungated_months']:.1f} months as they are"
    rows = [
        (
            name,
            "no number" if record["worse_by"] is None else f"{record['worse_by']:+.0%}",
            str(record["paired"]["n"]),
            f"{record['more_abstained']:+.0%}",
            "yes" if record["kept"] else "no",
            *_passed(record["passed"]),
        )
        for name, record in disturbed.items()
        if record is not before
    ]
    return f"What it costs {release}, {where}:\n\n{markdown(DISTURBANCES, rows)}"


def _passed(passed: dict[str, Any]) -> Row:
    """What of disturbed radiographs gets past the gates: how many, their MAE, how often their intervals hold."""
    if not passed["n"]:
        return "0", "-", "-"
    return str(passed["n"]), f"{passed['mae_months']:.1f} months", f"{passed['coverage_90']:.0%}"


def errors_table(accuracy: dict[str, Any], release: str) -> str:
    """The MAE of a release by reference age and by sex; nothing where it is not known."""
    record = accuracy.get("test", {}).get("with_sex")
    if not record:
        return ""
    bands = [(_ages(band), str(band["n"]), _mae(band, "mae_months")) for band in record["by_age_band"]]
    sexes = [(title, str(record[f"n_{sex}"]), _mae(record, f"mae_{sex}_months")) for title, sex in SEXES]
    where = f"{record['n']} radiographs of the test part that got a number from {release}, read with their sex:"
    return f"{where}\n\n{markdown(ERRORS, bands + sexes)}"


def _mae(record: dict[str, Any], name: str) -> str:
    """An MAE with its interval; a dash where nothing was read."""
    if record[name] is None:
        return "-"
    low, high = record[f"{name}_ci95"]
    return f"{record[name]:.1f} ({low:.1f} to {high:.1f})"


def coverage_table(accuracy: dict[str, Any], release: str) -> str:
    """How often the intervals of a release hold, by predicted and by reference age; nothing where it is not known."""
    record = accuracy.get("test", {}).get("with_sex")
    if not record:
        return ""
    rows = [
        (_ages(read), *_held(read), *_held(true))
        for read, true in zip(record["by_predicted_age_band"], record["by_age_band"], strict=True)
    ]
    where = f"{record['n']} radiographs of the test part that got a number from {release}, read with their sex:"
    return f"{where}\n\n{markdown(COVERAGE, rows)}"


def _ages(band: dict[str, Any]) -> str:
    low, high = band["low_months"], band["high_months"]
    return f"{low} and more" if high is None else f"{low} to {high}"


def _held(band: dict[str, Any]) -> Row:
    """Of the intervals of a band: how many there are, how often they hold, how wide they are."""
    if not band["n"]:
        return "0", "-", "-"
    low, high = band["coverage_ci95"]
    held = f"{band['coverage']:.1%} ({low:.1%} to {high:.1%})"
    return str(band["n"]), held, f"{band['median_interval_months']:.0f} months"


def speed_rows(speed: dict[str, Any]) -> Iterator[Row]:
    """Rows of the README from `benchmarks.speed`."""
    where = f"{speed['cores']} cores, no GPU"
    for case in speed["latency"]:
        value = f"{case['service_p50_ms']:.0f} ms, {case['ratio']:.2f} of direct calls"
        yield f"latency, {case['case']}", value, f"median of one client, {where}"
    for case in speed["throughput"]:
        value = f"{case['service_per_s']:.1f} a second, {case['ratio']:.2f} of direct calls"
        yield f"throughput, {case['case']}", value, f"{case['clients']} clients, {case['refused']} refused, {where}"
    peak = max(case["peak_memory_gib"] for case in speed["throughput"])
    yield "memory of all services", f"{peak:.1f} GiB", f"peak with {speed['throughput'][0]['clients']} clients"


def markdown(head: Row, rows: Sequence[Row]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))


def replaced(text: str, name: str, table: str) -> str:
    """`text` with `table` between the comments `<!-- NAME -->` and `<!-- /NAME -->`."""
    head, begin, rest = text.partition(f"<!-- {name} -->")
    _, end, tail = rest.partition(f"<!-- /{name} -->")
    if not begin or not end:
        raise ValueError(f"there is no place for {name}")
    return f"{head}{begin}\n{table}\n{end}{tail}"


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accuracy", type=Path)
    parser.add_argument("--speed", type=Path)
    parser.add_argument("--full", type=Path)
    arguments = parser.parse_args()
    OPERATIONS.write_text(replaced(OPERATIONS.read_text(), "settings", settings_tables()))
    page = replaced(KUBERNETES.read_text(), "arrows", arrows_table())
    KUBERNETES.write_text(replaced(page, "renamed", renamed_table()))
    TRAINING.write_text(replaced(TRAINING.read_text(), "exits", exits_table()))
    accuracy, full, speed = map(_read, (arguments.accuracy, arguments.full, arguments.speed))
    rows = [*accuracy_rows(accuracy), *(speed_rows(speed) if speed else ())]
    if rows:
        README.write_text(replaced(README.read_text(), "figures", markdown(FIGURES, rows)))
    tables = {
        "errors": errors_table(accuracy, "the embedded release"),
        "full-errors": errors_table(full, "the full release"),
        "coverage": coverage_table(accuracy, "the embedded release"),
        "full": markdown(FIGURES, [*accuracy_rows(full)]) if full else "",
        "full-coverage": coverage_table(full, "the full release"),
        "disturbances": disturbances_table(accuracy, "the embedded release"),
        "full-disturbances": disturbances_table(full, "the full release"),
    }
    for name, table in tables.items():
        if table:
            EVALUATION.write_text(replaced(EVALUATION.read_text(), name, table))


def _read(path: Path | None) -> dict[str, Any]:
    return json.loads(path.read_text()) if path else {}


if __name__ == "__main__":
    main()
