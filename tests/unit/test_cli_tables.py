"""The tables that go with radiographs."""

from pathlib import Path

import pytest

from services.cli.files import InputFile
from services.cli.tables import Columns, Label, lookup, read_classes, read_labels, read_part, read_sizes
from services.cli.usage import UsageError


def table(folder: Path, text: str) -> Path:
    """A CSV file."""
    path = folder / "table.csv"
    path.write_text(text)
    return path


def test_labels_are_read_in_the_layout_of_the_challenge(tmp_path: Path) -> None:
    """Column order is free, a byte-order mark is passed over."""
    path = table(tmp_path, "\ufeffid,male,boneage\n1377,False,180\n1378,True,12.5\n")
    assert read_labels(path) == {"1377": Label(180.0, male=False), "1378": Label(12.5, male=True)}


def test_labels_are_read_from_the_columns_that_are_named(tmp_path: Path) -> None:
    """With the words that training knows of a sex, also where some are not told, or none are asked for."""
    path = table(tmp_path, "case,months,sex\na,30,F\nb,40,\nc,350,male\n")
    labels = read_labels(path, Columns("case", "months", "sex"))
    assert labels == {"a": Label(30, male=False), "b": Label(40, male=None), "c": Label(350, male=True)}
    assert {label.male for label in read_labels(path, Columns("case", "months", None)).values()} == {None}
    assert read_classes(path, "sex", id_column="case") == {"a": "F", "b": "", "c": "male"}
    with pytest.raises(UsageError, match="lacks the column 'case'"):
        read_labels(table(tmp_path, "id,months\n1,2\n"), Columns("case", "months", None))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("id,boneage\n1,2\n", "lacks the column 'male'"),
        ("id,boneage,male\n1,x,True\n", "not months"),
        ("id,boneage,male\n1,nan,True\n", "not between"),
        ("id,boneage,male\n1,-3,True\n", "not between"),
        ("id,boneage,male\n1,12,perhaps\n", "neither True nor False"),
        ("id,boneage,male\n1,12\n", "cut short"),
    ],
)
def test_a_wrong_label_is_refused_with_its_id(tmp_path: Path, text: str, reason: str) -> None:
    """Nothing is guessed of a label."""
    with pytest.raises(UsageError, match=reason):
        read_labels(table(tmp_path, text))


def test_sizes_are_height_then_width(tmp_path: Path) -> None:
    """Sizes are whole pixels; anything else is refused."""
    assert read_sizes(table(tmp_path, "id,width,height\na,3,4\n")) == {"a": (4, 3)}
    with pytest.raises(UsageError, match="height of id 'a' is '0'"):
        read_sizes(table(tmp_path, "id,width,height\na,3,0\n"))


def test_a_part_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    """A misspelt part does not become an empty measurement."""
    path = table(tmp_path, "id,part\n1,train\n2,test\n3,test\n")
    assert read_part(path, "test") == {"2", "3"}
    with pytest.raises(UsageError, match="it has test, train"):
        read_part(path, "tset")


def test_a_table_that_cannot_be_opened_is_wrong_usage(tmp_path: Path) -> None:
    """A missing table and a binary one are refused in words."""
    with pytest.raises(UsageError, match="cannot be read"):
        read_sizes(tmp_path / "nowhere.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot be read"):
        read_sizes(tmp_path / "binary.csv")


def test_a_row_is_found_by_the_whole_id_before_the_last_part() -> None:
    """Subfolders need not stand in the table, and win where they do."""
    file = InputFile(Path("x/7.png"), "x/7", "encoded")
    assert lookup({"7": 1}, file) == 1
    assert lookup({"7": 1, "x/7": 2}, file) == 2
    assert lookup({"8": 1}, file) is None
