"""Accuracy through the real services on real radiographs: test MAE, forms, turns, disturbances, no hands, and masks.

    python -m benchmarks.accuracy --data FOLDER [--out FILE.json] [--only NAME ...]

FOLDER holds `rsna-bone-age`, `larger-radiographs`, `hand-masks`, `ossification-regions` and `dicom` as
docs/evaluation.md says. Radiographs are read as the `boneage` command reads them, by the real services.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.activation import activation
from benchmarks.cases import not_hands, png, shuffled_hand, true_aspect, turned_hand
from benchmarks.contact_sheet import activation_sheet
from benchmarks.forms import write_forms
from benchmarks.outlines import drawn_outlines, ossification
from benchmarks.robustness import robustness
from training.data.split import SPLIT_CSV, read_split

Figures = dict[str, Any]
TILTS_DEG = (-30.0, -15.0, 15.0, 30.0)
TURNED_IMAGES = 150
SHUFFLED_IMAGES = 1000
WORST_MASKS = Path("build/worst-masks.png")
ACTIVATION_SHEET = Path("build/activation-maps.png")


def boneage(*arguments: str) -> list[dict[str, Any]]:
    """JSON lines that one `boneage` command prints; images that fail do not stop it."""
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments], capture_output=True, text=True, check=False
    )
    if not done.stdout:
        raise RuntimeError(f"boneage {' '.join(arguments)} printed nothing:\n{done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_part(data: Path) -> Figures:
    """The test part, with and without the sex."""
    rsna = data / "rsna-bone-age"
    common = ["evaluate", "--images", str(rsna / "boneage-training-dataset"),
              "--labels", str(rsna / "boneage-training-dataset.csv"), "--sizes", str(rsna / "image-size.csv"),
              "--split", str(SPLIT_CSV), "--part", "test", "--json"]  # fmt: skip
    return {"with_sex": boneage(*common)[0], "sex_unknown": boneage(*common, "--sex", "unknown")[0]}


def one_hand_in_many_forms(data: Path) -> Figures:
    """Each of the larger radiographs as JPEG, PNG and four kinds of DICOM: how far ages lie apart, and the status."""
    with tempfile.TemporaryDirectory() as folder:
        sizes = write_forms(data, Path(folder))
        answers = boneage("assess", folder, "--sex", "unknown", "--sizes", str(sizes), "--json")
    by_hand: dict[str, list[dict[str, Any]]] = {}
    for answer in answers:
        by_hand.setdefault(Path(answer["path"]).stem.split("-")[0], []).append(answer)
    spans, same = {}, 0
    for hand, forms in by_hand.items():
        same += len({form["status"] for form in forms}) == 1
        ages = [form["age_months"] for form in forms if form["age_months"] is not None]
        if len(ages) > 1:
            spans[hand] = max(ages) - min(ages)
    return {
        "hands": len(by_hand), "images": len(answers), "same_status": same, "with_age": len(spans),
        "median_span_months": float(np.median(list(spans.values()))), "largest_span_months": max(spans.values()),
        "widest": {hand: round(spans[hand], 2) for hand in sorted(spans, key=spans.__getitem__)[:-6:-1]},
    }  # fmt: skip


def turned_hands(data: Path) -> Figures:
    """Test radiographs tilted by up to 30 degrees, turned by 90, 180 or flipped: MAE and abstentions of each."""
    rsna = data / "rsna-bone-age"
    split = read_split()
    ages: dict[str, float] = {}
    male: dict[str, bool] = {}
    with (rsna / "boneage-training-dataset.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            ages[row["id"]], male[row["id"]] = float(row["boneage"]), row["male"] == "True"
    ids = [id_ for id_, part in split.items() if part == "test"][:TURNED_IMAGES]
    changes: dict[str, Callable[[Any], Any]] = {"upright": lambda grey: grey}
    changes |= {f"tilted {angle:+.0f}": partial(turned_hand, angle_deg=angle) for angle in TILTS_DEG}
    changes |= {"turned 90": np.rot90, "turned 180": lambda g: np.rot90(g, 2), "turned 270": lambda g: np.rot90(g, 3),
                "upside down": np.flipud}  # fmt: skip
    images = {id_: true_aspect(rsna, id_) for id_ in ids}
    result: Figures = {}
    for name, change in changes.items():
        errors, abstained = [], 0
        for sex in ("male", "female"):
            chosen = [id_ for id_ in ids if male[id_] == (sex == "male")]
            for answer in _assess(((id_, np.ascontiguousarray(change(images[id_]))) for id_ in chosen), "--sex", sex):
                abstained += answer["status"] == "ABSTAINED"
                if answer["status"] == "OK":
                    errors.append(abs(answer["age_months"] - ages[Path(answer["path"]).stem]))
        result[name] = {"read": len(errors), "abstained": abstained,
                        "mae_months": float(np.mean(errors)) if errors else None}  # fmt: skip
    return result


def no_hands(data: Path) -> Figures:
    """What is not a hand: share that got no number."""
    dicom = boneage("assess", str(data / "dicom"), "--json")
    others = _assess(not_hands())
    rsna = data / "rsna-bone-age"
    split = read_split()
    ids = [id_ for id_, part in split.items() if part != "train"][:SHUFFLED_IMAGES]
    shuffled = _assess((id_, shuffled_hand(true_aspect(rsna, id_), index)) for index, id_ in enumerate(ids))
    groups = {"dicom_of_other_parts": dicom, "shuffled_hands": shuffled}
    for answer in others:
        groups.setdefault(Path(answer["path"]).stem.split("-")[0], []).append(answer)
    found: Figures = {
        name: _refused(answers) | {"slipped": sorted(Path(a["path"]).stem for a in answers if a["status"] == "OK")[:20]}
        for name, answers in groups.items()
    }
    # The others have set limits: only of the test part nothing was seen before.
    found["shuffled_hands"]["test_part"] = _refused([a for a in shuffled if split[Path(a["path"]).stem] == "test"])
    return found


def _refused(answers: list[dict[str, Any]]) -> dict[str, Any]:
    return {"n": len(answers), "refused": sum(a["status"] == "ABSTAINED" for a in answers)}


def _assess(images: Iterable[tuple[str, np.ndarray]], *arguments: str) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        for name, grey in images:
            (Path(folder) / f"{Path(name).stem}.png").write_bytes(png(grey))
        return boneage("assess", folder, "--json", *arguments)


FIGURES: dict[str, Callable[[Path], Figures]] = {
    "test": test_part,
    "forms": one_hand_in_many_forms,
    "turns": turned_hands,
    "robustness": robustness,
    "no_hands": no_hands,
    "activation": activation,
    "maps": partial(activation_sheet, sheet=ACTIVATION_SHEET),
    "masks": drawn_outlines,
    "regions": partial(ossification, sheet=WORST_MASKS),
}


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("build/accuracy.json"))
    parser.add_argument("--only", nargs="*", choices=sorted(FIGURES), default=list(FIGURES))
    arguments = parser.parse_args()
    result: Figures = {}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        result[name] = FIGURES[name](arguments.data)
        arguments.out.write_text(json.dumps(result, indent=1))
    table = Table("figure", "value")
    for group, figures in result.items():
        for name, value in figures.items():
            shown = {k: v for k, v in value.items() if k != "slipped" or v} if isinstance(value, dict) else value
            table.add_row(f"{group}: {name}", json.dumps(shown))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
