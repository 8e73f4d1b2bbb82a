"""Labelled radiographs of any layout, and rows that jobs keep on disk."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.radiographs import Dataset, natural
from training.data.rows import Rows
from training.jobs.command import JobConfig, read_config
from training.run.exits import BadConfigurationError

SMAPS = Path("/proc/self/smaps")
PX = {"image": ((4, 4), "uint8"), "score": ((), "float32")}


@pytest.fixture
def dataset(tmp_path):
    """Five radiographs: one without a file, one without a part, one without a label; the size of one is known."""
    (tmp_path / "images").mkdir()
    for id_ in ("2", "10", "unplaced", "unlabelled"):
        cv2.imwrite(str(tmp_path / "images" / f"{id_}.png"), np.full((40, 20), 128, np.uint8))
    (tmp_path / "labels.csv").write_text("id,boneage,male\n10,120,True\n2,30.5,F\nabsent,1,False\nunplaced,5,\n")
    (tmp_path / "split.csv").write_text("id,part\n10,train\n2,test\nabsent,train\n")
    (tmp_path / "sizes.csv").write_text("id,height,width\n10,200,50\n")
    return Dataset(tmp_path / "images", tmp_path / "labels.csv", tmp_path / "sizes.csv", tmp_path / "split.csv")


def test_what_can_be_used_comes_in_order_and_the_rest_is_named(dataset, caplog):
    """Nothing is dropped in silence."""
    found = dataset.read()
    assert [(r.id, r.label, r.sex, r.part) for r in found] == [
        ("2", "30.5", "female", "test"),
        ("10", "120", "male", "train"),
    ]
    assert "1 of 4 radiographs have a label and no file: absent" in caplog.text
    assert "1 of 4 radiographs have a label and no part: unplaced" in caplog.text
    assert "1 of 4 radiographs have a file and no label: unlabelled" in caplog.text
    assert "1 of 2 radiographs are not in" in caplog.text
    assert "sizes.csv and taken as they are stored: 2" in caplog.text


def test_a_file_that_another_of_its_size_replaced_is_noticed(dataset):
    """By its beginning or its end; a file that cannot be opened has an origin too, and is named when it is read."""
    one, _ = dataset.read()
    content, before = one.path.read_bytes(), one.origin
    assert one.origin == before
    for place in (0, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 1
        one.path.write_bytes(changed)
        assert one.origin != before
    one.path.unlink()
    one.path.mkdir()
    assert isinstance(one.origin, int)
    with pytest.raises(OSError, match="directory"):
        one.frame()


def test_squashed_aspect_is_restored(dataset):
    """The frame has the aspect at acquisition where it is known, the stored one elsewhere."""
    (own, squashed) = [radiograph.frame().shape for radiograph in dataset.read()]
    assert own[0] == pytest.approx(2 * own[1], abs=1)
    assert squashed[0] == pytest.approx(4 * squashed[1], abs=2)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("labels.csv", "id,age\n2,3\n", "no column boneage, male"),
        ("labels.csv", "id,boneage,male\n2,3,T\n", "line 2: sex 't' is none of"),
        ("labels.csv", "id,boneage,male\n2,3,M\n2,3,M\n", "line 3: '2' is there twice"),
        ("labels.csv", "id,boneage,male\n2,3\n", "line 2 has too few values"),
        ("split.csv", "id,part\n2,training\n", "unknown parts"),
        ("split.csv", "id,part\n2,train\n10,train\n2,test\n", "line 4: '2' is there twice"),
        ("sizes.csv", "id,height,width\n2,4,3\n2,3,4\n", "line 3: '2' is there twice"),
        ("split.csv", "id,part\nx,train\n", "no row has both"),
        ("sizes.csv", "id,height,width\n2,tall,3\n", "'tall'"),
    ],
)
def test_table_that_cannot_be_used_is_named(dataset, file, text, message):
    """With the file, and the line where there is one."""
    path = dataset.labels.with_name(file)
    path.write_text(text)
    with pytest.raises(BadConfigurationError, match=message) as refused:
        dataset.read()
    assert file in str(refused.value) or "labels.csv" in str(refused.value)


def test_two_files_of_one_name_are_refused(dataset):
    """It would be a guess which one the label is of."""
    (dataset.images / "2.jpg").write_bytes(b"")
    with pytest.raises(BadConfigurationError, match="several suffixes, 2"):
        dataset.read()


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_numbers_are_ordered_as_numbers(numbers):
    """Names come after them."""
    ids = [str(number) for number in numbers]
    assert sorted(["a", *ids], key=natural) == [*map(str, sorted(numbers)), "a"]


def test_rows_that_other_code_made_are_not_gone_on_with(tmp_path):
    """Unless they do not say which; whoever learns from them is told the same by either."""
    one = Rows.make(tmp_path / "rows", ["a", "b"], PX, made_by="x", code="1")
    with pytest.raises(BadConfigurationError, match="made with other code; delete"):
        Rows.make(tmp_path / "rows", ["a", "b"], PX, made_by="x", code="2")
    assert Rows.read(tmp_path / "rows").code == "1"
    older = Rows.make(tmp_path / "older", ["a", "b"], PX, made_by="x")
    assert Rows.make(tmp_path / "older", ["a", "b"], PX, made_by="x", code="2").code == ""
    assert older.digest(["a"]) == one.digest(["a"])


def test_rows_survive_their_process(tmp_path):
    """What was written is there when the folder is opened again, and only that counts as done."""
    rows = Rows.make(tmp_path / "rows", ["a", "b", "c"], PX, made_by="x")
    rows.write(np.array([1]), image=np.full((1, 4, 4), 7, np.uint8), score=np.array([0.5], np.float32))
    again = Rows.make(tmp_path / "rows", ["a", "b", "c"], PX, made_by="x")
    assert again.missing.tolist() == [0, 2]
    assert again.columns["image"][1].tolist() == [[7] * 4] * 4
    assert again.find(["c", "b", "z"]).tolist() == [-1, 1, -1]


@pytest.mark.skipif(not SMAPS.exists(), reason="needs Linux, which says what is not on disk yet")
def test_rows_are_on_disk_before_they_count(tmp_path):
    """A machine that stops leaves no row of zeros marked as done: pages of values are clean once `write` returns."""
    rows = Rows.make(tmp_path / "rows", ["a", "b"], PX, made_by="x")
    rows.columns["score"][0] = 0.1
    assert dirty_kilobytes(tmp_path / "rows" / "score.bin"), "what is not on disk is not seen"
    rows.columns["score"].flush()
    if dirty_kilobytes(tmp_path / "rows" / "score.bin"):
        pytest.skip("needs temporary files on a disk; these are in memory: set TMPDIR")
    rows.write(np.array([1]), image=np.full((1, 4, 4), 7, np.uint8), score=np.array([0.5], np.float32))
    assert [dirty_kilobytes(tmp_path / "rows" / f"{name}.bin") for name in PX] == [0, 0]


def dirty_kilobytes(path):
    """How much of a mapped file this process has changed that the disk does not hold yet."""
    inside, total = False, 0
    for line in SMAPS.read_text().splitlines():
        if "-" in line.split()[0]:
            inside = line.endswith(str(path))
        elif inside and line.split(":")[0].endswith("_Dirty"):
            total += int(line.split()[1])
    return total


@pytest.mark.parametrize(
    ("ids", "columns", "made_by", "differing"),
    [
        (["a"], PX, "x", "images"),
        (["a", "b"], {"score": ((), "float32")}, "x", "columns"),
        (["a", "b"], PX, "y", "models or settings"),
    ],
)
def test_rows_of_something_else_are_refused(tmp_path, ids, columns, made_by, differing):
    """Rows of other images or another model are never mixed with these."""
    Rows.make(tmp_path, ["a", "b"], PX, made_by="x")
    with pytest.raises(BadConfigurationError, match=f"other {differing}"):
        Rows.make(tmp_path, ids, columns, made_by=made_by)


def test_a_variable_that_the_environment_lacks_is_named(tmp_path, monkeypatch):
    """It never becomes the name of a folder."""
    monkeypatch.setenv("THERE", str(tmp_path))
    for name in ("NOWHERE", "ABSENT"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "job.yaml"
    path.write_text("images: $THERE/a  # $COMMENT\nlabels: ${NOWHERE}/b\nsplit: [$ABSENT, 'costs $5']\n")
    with pytest.raises(BadConfigurationError, match=r"the environment has no \$ABSENT, \$\{NOWHERE\}, which"):
        read_config(JobConfig, path)


def test_damaged_description_is_named(tmp_path):
    """An unreadable folder is an error, not an empty one."""
    (tmp_path / "rows.json").write_text(json.dumps({"ids": []})[:-3])
    with pytest.raises(BadConfigurationError, match="holds no prepared images"):
        Rows.read(tmp_path)
