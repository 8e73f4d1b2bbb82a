"""What the command takes as a radiograph, and how it names it."""

from pathlib import Path

import pytest

from services.cli.artifacts import refuse_overwriting
from services.cli.files import InputFile, collect, refuse_collisions
from services.cli.usage import UsageError, printable

DICOM_HEAD = bytes(128) + b"DICM"


def touch(path: Path, content: bytes = b"x") -> Path:
    """A file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_folder_is_searched_to_the_bottom_in_sorted_order(tmp_path: Path) -> None:
    """Every known suffix is found in any case, other files are not, and the order is that of the names."""
    for name in ("b.PNG", "a/2.dcm", "a/1.jpeg", "c.dicom", "d.jpg", "notes.txt", "labels.csv"):
        touch(tmp_path / name)
    assert [file.id for file in collect([tmp_path])] == ["a/1", "a/2", "b", "c", "d"]


def test_a_file_without_suffix_is_taken_if_it_begins_as_dicom(tmp_path: Path) -> None:
    """Names without suffix and names made of a UID are looked into."""
    touch(tmp_path / "IM0001", DICOM_HEAD)
    touch(tmp_path / "1.2.840.7", DICOM_HEAD)
    touch(tmp_path / "README")
    touch(tmp_path / "archive.bin", DICOM_HEAD)
    files = collect([tmp_path])
    assert [(file.id, file.kind) for file in files] == [("1.2.840.7", "dicom"), ("IM0001", "dicom")]


def test_what_is_no_radiograph_of_a_folder_is_left_out(tmp_path: Path) -> None:
    """Hidden files and folders, a DICOMDIR and broken links are passed over."""
    touch(tmp_path / "hand.dcm")
    touch(tmp_path / "._hand.dcm")
    touch(tmp_path / ".cache" / "hand.png")
    touch(tmp_path / "DICOMDIR", DICOM_HEAD)
    (tmp_path / "gone.dcm").symlink_to(tmp_path / "nowhere")
    assert [file.path.name for file in collect([tmp_path])] == ["hand.dcm"]


def test_artifacts_of_an_earlier_run_are_not_read(tmp_path: Path) -> None:
    """The folder that artifacts go to is left out of the search."""
    touch(tmp_path / "hand.dcm")
    touch(tmp_path / "out" / "hand.mask.png")
    assert [file.id for file in collect([tmp_path], leave_out=tmp_path / "out")] == ["hand"]


@pytest.mark.parametrize(
    ("name", "content", "kind"), [("x.dcm", b"", "dicom"), ("x", DICOM_HEAD, "dicom"), ("x.txt", b"hi", "encoded")]
)
def test_a_file_named_on_its_own_is_always_taken(tmp_path: Path, name: str, content: bytes, kind: str) -> None:
    """A file that the user names gets an answer, whatever it holds."""
    assert [file.kind for file in collect([touch(tmp_path / name, content)])] == [kind]


def test_a_path_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    """A missing path and a folder with nothing to read are refused before the start."""
    with pytest.raises(UsageError, match="does not exist"):
        collect([tmp_path / "nowhere"])
    with pytest.raises(UsageError, match="holds no DICOM"):
        collect([tmp_path])


def test_files_that_would_share_artifacts_are_refused(tmp_path: Path) -> None:
    """Two suffixes of one name collide; subfolders keep names apart."""
    touch(tmp_path / "a" / "1.png")
    touch(tmp_path / "b" / "1.png")
    refuse_collisions(collect([tmp_path]))
    touch(tmp_path / "a" / "1.jpg")
    with pytest.raises(UsageError, match="a/1"):
        refuse_collisions(collect([tmp_path]))


def test_artifacts_never_take_the_place_of_an_input(tmp_path: Path) -> None:
    """A picture named as an artifact would be is not overwritten."""
    touch(tmp_path / "1.png")
    touch(tmp_path / "1.mask.png")
    with pytest.raises(UsageError, match="overwrite"):
        refuse_overwriting(collect([tmp_path]), tmp_path)


def test_names_are_made_safe_for_a_terminal() -> None:
    """Escape sequences and undecodable bytes are shown, not sent."""
    assert printable(Path("a\x1b[31m\udcff.dcm")) == "a\\x1b[31m\\udcff.dcm"
    assert printable("Röntgen 1.png") == "Röntgen 1.png"


def test_an_input_file_knows_nothing_of_its_content(tmp_path: Path) -> None:
    """The id is made of the path alone."""
    assert collect([touch(tmp_path / "s.1" / "Hand.DCM")]) == [
        InputFile(tmp_path / "s.1" / "Hand.DCM", "Hand", "dicom")
    ]
