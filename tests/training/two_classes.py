"""A project of one's own for the job of transfer learning: images with a bright disc and without, two classes."""

import os
import subprocess
import sys

import cv2
import numpy as np
import torch
import yaml

from training.data.rows import Rows

SIDE = 64
COUNT = 40
PATIENCE_S = 240


def discs(folder):
    """A folder with images with a bright disc and without, their table and split, prepared: two classes."""
    rng = np.random.default_rng(0)
    bright = np.arange(COUNT) % 2 == 1
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    disc = bright[:, None, None] & (np.hypot(rows, columns) < SIDE / 3)
    images = np.clip(60 + 120 * disc + rng.normal(0, 10, (COUNT, SIDE, SIDE)), 1, 255).astype(np.uint8)
    ids = [f"wrist-{i}" for i in range(COUNT)]
    (folder / "images").mkdir()
    for id_, image in zip(ids, images, strict=True):
        cv2.imwrite(str(folder / "images" / f"{id_}.png"), image)
    rows = [f"{id_},{'sclerosis' if b else 'normal'}" for id_, b in zip(ids, bright, strict=True)]
    (folder / "labels.csv").write_text("\n".join(["case,finding", *rows]) + "\n")
    parts = ["validation" if i % 5 == 0 else "train" for i in range(COUNT)]
    (folder / "split.csv").write_text("\n".join(["id,part", *map(",".join, zip(ids, parts, strict=True))]) + "\n")
    prepared = Rows.make(folder / "hands", ids, {"raw": ((SIDE, SIDE), "uint8")}, made_by="test")
    prepared.write(np.arange(COUNT), raw=images)
    return folder


def source(project, **changes):
    """Where the images and their labels are."""
    dataset = {
        "images": str(project / "images"), "labels": str(project / "labels.csv"), "split": str(project / "split.csv"),
        "id_column": "case", "label_column": "finding", "sex_column": None,
    }  # fmt: skip
    return {"dataset": dataset, "hands": str(project / "hands"), "images": "raw", "side_px": SIDE} | changes


def config(project, **changes):
    """The configuration with changes, as a file."""
    values = {
        "source": source(project), "backbone": "mobilenetv3_small_050",
        "start_from": None, "target": {"kind": "category", "classes": ["normal", "sclerosis"]}, "precision": "fp32",
        "stages": [
            {"trainable": [], "images": 320, "learning_rate": 0.02, "copies": 2, "cached": True},
            {"trainable": ["exit"], "images": 160, "learning_rate": 0.003},
        ],
        "fitting": {"batch_size": 8, "validate_every": 80, "seed": 1, "balanced": True},
        "kept": str(project / "kept"), "out": str(project / "run"), "checkpoint_every_s": 0.01,
    }  # fmt: skip
    path = project / f"{len(list(project.iterdir()))}.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path


def command(path):
    """The job's command line."""
    return [sys.executable, "-m", "training.jobs.transfer", "--config", str(path)]


def ended(path, **environment):
    """Run the job to its end."""
    with_ours = os.environ | environment
    return subprocess.run(command(path), capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=with_ours)


def weights(folder):
    """What a run made."""
    return torch.load(folder / "weights.pt", weights_only=True)["model"]
