"""Reports a study of enhancement: one table a question, and a sheet of examples."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
MEASURES: Final = {
    "psnr_db": ("PSNR, dB", 1),
    "ssim": ("SSIM", 3),
    "unsteadiness": ("unsteadiness", 4),
    "psnr_undegraded_db": ("PSNR of hands left as they are, dB", 1),
}


def write_report(folder: Path, figures: Mapping[str, Any], *, part: str) -> None:
    """Write `report.md` into `folder`."""
    partial = folder / "report.partial"
    partial.write_text("\n".join(_report(figures, part)) + "\n")
    partial.replace(folder / "report.md")


def _report(figures: Mapping[str, Any], part: str) -> Iterator[str]:
    yield "# What enhancement is worth\n"
    yield f"{figures['images']} hands of the {part} part; means with 95% bootstrap intervals.\n"
    yield "![From the top: the hand, degraded, and what each method makes of it](examples.png)\n"
    yield "## Bringing degraded hands back\n"
    yield "Inside the hand, against the hand before it was degraded. Unsteadiness is the standard deviation over"
    yield "several degradations of one hand: less is better.\n"
    names = [name for name, _ in MEASURES.values()]
    rows = {method: [_cell(found[key], digits) for key, (_, digits) in MEASURES.items()]
            for method, found in figures["restoration"].items()}  # fmt: skip
    yield from _table(["method", *names], rows)
    contrast = dict(figures["contrast_to_noise"])
    count = contrast.pop("images")
    yield "\n## Contrast of bone against the tissue around it\n"
    yield f"Contrast-to-noise ratio on {count} ossification maps.\n"
    yield from _table(["method", "contrast to noise"], {name: [_cell(one, 2)] for name, one in contrast.items()})
    yield "\n## Error of the regressor\n"
    yield "MAE in months of one regressor, which was trained on enhanced hands: the other rows say how much it depends"
    yield "on them, and the study of schedules what a regressor gives that was trained on each.\n"
    maes = figures["mae_months"]
    conditions = list(next(iter(maes.values())))
    rows = {method: [_cell(found[name], 2) for name in conditions] for method, found in maes.items()}
    yield from _table(["method", *conditions], rows)
    yield "\n## Does the gate see bones that were planted or erased?\n"
    yield "Each beside a change of contrast, which alone must pass.\n"
    for name, gate in figures["gate"].items():
        yield f"{name}: limit {gate['limit']:.3f}, {gate['false_alarms']:.1%} false alarms\n"
        kinds = {(one["kind"], one["diameter_px"]): one for one in gate["detected"]}
        sizes = sorted({px for _, px in kinds})
        cells = {kind: [_share(kinds.get((kind, px))) for px in sizes] for kind in sorted({k for k, _ in kinds})}
        yield from _table(["centre", *(f"{px} px" for px in sizes)], cells)
        yield ""


def _table(head: list[str], rows: Mapping[str, list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    yield from (f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items())


def _cell(figure: Mapping[str, float], digits: int) -> str:
    return f"{figure['mean']:.{digits}f} ({figure['low']:.{digits}f} to {figure['high']:.{digits}f})"


def _share(found: Mapping[str, Any] | None) -> str:
    return "-" if found is None else f"{found['share']:.0%} of {found['n']}"


def draw_sheet(made: Mapping[str, Image], hands: Image, path: Path) -> None:
    """Hands (N, S, S) in a row, below them what each method made of them, degraded; the first row is the original."""
    rows = [np.hstack(list(hands))]
    for name, images in made.items():
        row = (np.hstack(list(images)) * 255).astype(np.uint8)
        cv2.putText(row, name, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 255, 1, cv2.LINE_AA)
        rows.append(row.astype(np.float32) / np.float32(255))
    cv2.imwrite(str(path), np.rint(np.vstack(rows) * 255).astype(np.uint8))
