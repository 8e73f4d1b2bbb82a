"""Reports a study of enhancement: one table a question, its paired differences, and sheets of examples."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.domain.metrics import bootstrap_interval, mean
from training.enhancement.degrade import KINDS
from training.evaluation.enhancement_measures import AS_IT_IS
from training.evaluation.gate_figures import AS_SERVED, AT_FALSE_ALARMS
from training.evaluation.report import table, write_lines
from training.run.results import write_picture

Image = NDArray[np.float32]
Comparison = dict[str, dict[str, dict[str, float]]]
"""`methods` and `differences` by name, each with its mean and the ends of its interval."""
MEASURES: Final = {
    "psnr_db": ("PSNR, dB", 1),
    "ssim": ("SSIM", 3),
    "unsteadiness": ("unsteadiness", 4),
    "psnr_undegraded_db": ("PSNR of hands left as they are, dB", 1),
}
BY_KIND: Final = {"psnr_db": ("PSNR, dB", 1), "ssim": ("SSIM", 3), "error_months": ("MAE of the regressor, months", 2)}


def compare(values: NDArray[np.float64], names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> Comparison:
    """Means of `values` (N, M) of N hands by M methods, and of the differences of pairs, with 95% intervals.

    Hands are resampled, which are independent; several values of one hand must be averaged before.
    """
    of = dict(zip(names, values.T, strict=True))
    return {
        "methods": {name: _mean(column) for name, column in of.items()},
        "differences": {f"{one} against {other}": _mean(of[one] - of[other]) for one, other in pairs},
    }


def _mean(values: NDArray[np.float64]) -> dict[str, float]:
    low, high = bootstrap_interval(values, mean)
    return {"mean": float(values.mean()), "low": low, "high": high}


def compare_hands(
    columns: Mapping[str, NDArray[np.float64]], names: Sequence[str], pairs: Sequence[tuple[str, str]], *, variants: int
) -> dict[str, dict[str, Any]]:
    """Every comparison of the columns (N, ...) of `HandMeasures`, of which each hand counts once."""
    mixed = slice(1, 1 + variants)

    def compared(values: NDArray[np.float64]) -> Comparison:
        return compare(values, names, pairs)

    return {
        "restoration": {
            "psnr_db": compared(columns["psnr_db"][:, :, mixed].mean(axis=2)),
            "ssim": compared(columns["ssim"][:, :, mixed].mean(axis=2)),
            "unsteadiness": compared(columns["unsteadiness"]),
            "psnr_undegraded_db": compared(columns["psnr_db"][:, :, AS_IT_IS]),
        },
        "by_kind": {
            name: {kind: compared(columns[name][:, :, place]) for place, kind in enumerate(KINDS, 1 + variants)}
            for name in BY_KIND
        },
        "mae_months": {
            "as they are": compared(columns["error_months"][:, :, AS_IT_IS]),
            "degraded": compared(columns["error_months"][:, :, mixed].mean(axis=2)),
        },
    }


def write_report(folder: Path, figures: Mapping[str, Any], *, part: str) -> None:
    """Write `report.md` into `folder`."""
    write_lines(folder, _report(figures, part))


def _report(figures: Mapping[str, Any], part: str) -> Iterator[str]:
    yield "# What enhancement is worth\n"
    yield f"{figures['hands']} hands of the {part} part; means with 95% bootstrap intervals over hands, and differences"
    yield f"paired by hand. {figures['left_out']} radiographs could not be used; `failures.csv` names them.\n"
    yield "![From the top: the hand, degraded, and what each method makes of it](examples.png)\n"
    yield "## Bringing degraded hands back\n"
    yield "Inside the hand, against the hand before it was degraded in exposure, scatter, blur and noise at once; the"
    yield f"mean of {figures['variants']} draws. Unsteadiness is the standard deviation over them: less is better.\n"
    digits = dict(MEASURES.values())
    yield from _compared({title: figures["restoration"][key] for key, (title, _) in MEASURES.items()}, digits)
    yield from _kinds(figures)
    contrast = figures["contrast_to_noise"]
    yield "## Contrast of bone against the tissue around it\n"
    yield f"Contrast-to-noise ratio on {figures['gate']['hands']} ossification maps, of radiographs of the"
    yield f"{' and the '.join(figures['mapped'])} part.\n"
    yield from _compared({"contrast to noise": contrast}, {"contrast to noise": 2})
    yield "## Error of the regressor\n"
    yield "MAE in months of one regressor, which was trained on enhanced hands: the other rows say how much it depends"
    yield "on them, and the study of schedules what a regressor gives that was trained on each.\n"
    yield from _compared(figures["mae_months"], dict.fromkeys(figures["mae_months"], 2))
    yield "## Does the gate see bones that were planted or erased?\n"
    yield "On the same radiographs, each beside a change of contrast, which alone must pass.\n"
    for name in (AT_FALSE_ALARMS, AS_SERVED):
        gate = figures["gate"][name]
        yield f"{name}: limit {gate['limit']:.3f}, {gate['false_alarms']:.1%} false alarms\n"
        kinds = {(one["kind"], one["diameter_px"]): one for one in gate["detected"]}
        sizes = sorted({px for _, px in kinds})
        cells = ([kind, *(_share(kinds.get((kind, px))) for px in sizes)] for kind in sorted({k for k, _ in kinds}))
        yield from table(["centre", *(f"{px} px" for px in sizes)], cells)
        yield ""


def _kinds(figures: Mapping[str, Any]) -> Iterator[str]:
    yield "## By kind of degradation\n"
    yield "One kind alone. What an enhancer was not trained to undo it can hardly be blamed for:\n"
    for name, kinds in figures["trained_for"].items():
        said = "nothing beside its weights says what for" if kinds is None else ", ".join(kinds)
        yield f"- {name} was trained for: {said}"
    yield "\n![From the top: the hand, degraded in each kind, and what each method makes of it](kinds.png)\n"
    for key, (title, digits) in BY_KIND.items():
        yield f"### {title}\n"
        yield from _compared(figures["by_kind"][key], dict.fromkeys(KINDS, digits))


def _compared(columns: Mapping[str, Comparison], digits: Mapping[str, int]) -> Iterator[str]:
    """The means of each column by method, and their differences."""
    for head, sign in (("methods", ""), ("differences", "+")):
        names = next(iter(columns.values()))[head]
        rows = (
            [name, *(_cell(column[head][name], f"{sign}.{digits[title]}f") for title, column in columns.items())]
            for name in names
        )
        yield from table([head.removesuffix("s"), *columns], rows)
        yield ""


def _cell(figure: Mapping[str, float], form: str) -> str:
    mean_, low, high = (format(figure[key], form) for key in ("mean", "low", "high"))
    return f"{mean_} ({low} to {high})"


def _share(found: Mapping[str, Any] | None) -> str:
    return "-" if found is None else f"{found['share']:.0%} of {found['n']}"


def draw_sheet(made: Mapping[str, Image], hands: Image, path: Path, *, heads: Sequence[str] = ()) -> None:
    """Hands (N, S, S) in a row, below them what each method made of them, degraded; `heads` name the columns."""
    side = hands.shape[2]
    rows = [(np.hstack(list(hands)) * 255).astype(np.uint8)]
    for place, head in enumerate(heads):
        _write(rows[0], head, place * side)
    for name, images in made.items():
        rows.append((np.hstack(list(images)) * 255).astype(np.uint8))
        _write(rows[-1], name, 0)
    write_picture(path, np.vstack(rows))


def _write(row: NDArray[np.uint8], text: str, left: int) -> None:
    cv2.putText(row, text, (left + 4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 255, 1, cv2.LINE_AA)
