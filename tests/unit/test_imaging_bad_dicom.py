"""Bad DICOM files: each is refused with the field and the reason, soon, in little memory, and without the patient."""

import resource
import struct
import subprocess
import sys
import time
import traceback
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filereader import dcmread

from services.core.adapters.imaging import Limits, decode_dicom
from services.core.adapters.imaging.dicom_file import read_dicom_file
from services.core.adapters.imaging.stored_pixels import single_frame
from services.core.errors import ImageTooLargeError, InvalidRadiographError, UnsupportedFormatError
from tests.radiographs import PATIENT_NAME, STUDY_UID, dicom_file, drawn_hand, look_up_table, written

LIMITS = Limits()
TIME_LIMIT_S = 2.0
MEMORY_LIMIT_BYTES = 512 * 2**20


def header(**elements) -> bytes:
    """A sound file but for these elements."""
    return dicom_file(drawn_hand(), elements=elements)


def without(keyword: str) -> bytes:
    """A sound file but for one element that is missing."""
    dataset = dcmread(BytesIO(dicom_file(drawn_hand())))
    del dataset[keyword]
    return written(dataset)


def raw_element(group: int, element: int, vr: bytes, length: int, value: bytes = b"") -> bytes:
    """An explicit little-endian element whose length need not be that of its value."""
    if vr in {b"OB", b"OW", b"SQ", b"UN"}:
        return struct.pack("<HH2s2xI", group, element, vr, length) + value
    return struct.pack("<HH2sH", group, element, vr, length) + value


def appended(extra: bytes) -> bytes:
    """A sound file whose pixel data come last, with elements before them."""
    data = dicom_file(drawn_hand())
    place = data.index(b"\xe0\x7f\x10\x00OW")
    return data[:place] + extra + data[place:]


def replaced_slope(value: bytes) -> bytes:
    """A file whose RescaleSlope has a text that pydicom would not write."""
    data = header(RescaleSlope="11111111", RescaleIntercept="0")
    return data.replace(b"11111111", value.ljust(8))


def compressed(frame: bytes, syntax=uid.JPEG2000Lossless, rows: int = 96, columns: int = 72) -> bytes:
    """A file with this codestream as its pixels."""
    return dicom_file(
        drawn_hand(), syntax=syntax, pixel_data=encapsulate([frame]), elements={"Rows": rows, "Columns": columns}
    )


def frame_of(syntax) -> bytes:
    """A sound codestream of the drawn hand."""
    file = read_dicom_file(dicom_file(drawn_hand(), syntax=syntax), maximum_bytes=2**20)
    return single_frame(file.dataset["PixelData"].value)


def deflated_bomb() -> bytes:
    """A small file whose data set is 200 MiB of nothing."""
    data = dicom_file(drawn_hand(), syntax=uid.DeflatedExplicitVRLittleEndian)
    start = 132 + 12 + struct.unpack_from("<I", data, 140)[0]
    deflate = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = bytes(2**20)
    return data[:start] + b"".join(deflate.compress(block) for _ in range(200)) + deflate.flush()


def rle_of(segment: bytes) -> bytes:
    """An RLE frame with this segment for either byte of the pixels."""
    frame = struct.pack("<16I", 2, 64, 64 + len(segment), *([0] * 13)) + segment * 2
    return compressed(frame, uid.RLELossless)


def j2k_of(*, side: int, tile: int = 0, precincts: int = 0) -> bytes:
    """A JPEG 2000 frame that declares `side` pixels, in tiles and precincts of any size, and holds next to nothing."""
    frame = bytearray(frame_of(uid.JPEG2000Lossless))
    struct.pack_into(">II", frame, 8, side, side)
    struct.pack_into(">II", frame, 24, tile or side, tile or side)
    if precincts:
        place = frame.index(b"\xff\x52")
        (length,) = struct.unpack_from(">H", frame, place + 2)
        levels = frame[place + 9]
        frame[place + 4] |= 1
        frame[place + 2 + length : place + 2 + length] = bytes([precincts * 17] * (levels + 1))
        struct.pack_into(">H", frame, place + 2, length + levels + 1)
    return compressed(bytes(frame), rows=side, columns=side)


CASES: dict[str, tuple[Callable[[], bytes], type[InvalidRadiographError], str]] = {
    "empty": (lambda: b"", InvalidRadiographError, "is empty"),
    "no preamble": (lambda: dicom_file(drawn_hand())[132:], UnsupportedFormatError, "DICM is missing"),
    "text": (lambda: b"not a radiograph" * 20, UnsupportedFormatError, "DICM is missing"),
    "only a preamble": (lambda: bytes(128) + b"DICM", UnsupportedFormatError, "transfer syntax"),
    "cut in the header": (lambda: dicom_file(drawn_hand())[:500], InvalidRadiographError, "ends before them"),
    "cut in the pixels": (lambda: dicom_file(drawn_hand())[:-100], InvalidRadiographError, "13824 bytes, not 13724"),
    "cut in compressed pixels": (
        lambda: dicom_file(drawn_hand(), syntax=uid.JPEG2000Lossless)[:-100],
        InvalidRadiographError,
        "ends before them",
    ),
    "cut inside a codestream": (
        lambda: compressed(frame_of(uid.JPEG2000Lossless)[:-50]),
        InvalidRadiographError,
        "damaged|cut short",
    ),
    "cut while deflated": (
        lambda: dicom_file(drawn_hand(), syntax=uid.DeflatedExplicitVRLittleEndian)[:-100],
        InvalidRadiographError,
        "cut short",
    ),
    "no pixels": (lambda: without("PixelData"), InvalidRadiographError, "no pixel data"),
    "no rows": (lambda: without("Rows"), InvalidRadiographError, "Rows is missing"),
    "several frames": (lambda: header(NumberOfFrames=2), UnsupportedFormatError, "2 frames"),
    "colour": (
        lambda: header(SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0),
        UnsupportedFormatError,
        "one sample",
    ),
    "palette": (lambda: header(PhotometricInterpretation="PALETTE COLOR"), UnsupportedFormatError, "MONOCHROME"),
    "32 bits": (lambda: header(BitsAllocated=32), UnsupportedFormatError, "8 to 16"),
    "4 bits": (lambda: header(BitsStored=4, HighBit=3), UnsupportedFormatError, "8 to 16"),
    "high bit beyond": (lambda: header(HighBit=16), UnsupportedFormatError, "8 to 16"),
    "MPEG": (
        lambda: dicom_file(drawn_hand(), syntax=uid.MPEG2MPML, pixel_data=encapsulate([b"\0\0\1\xb3"])),
        UnsupportedFormatError,
        "transfer syntax",
    ),
    "unknown syntax": (
        lambda: dicom_file(drawn_hand()).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.9.9.9\0"),
        UnsupportedFormatError,
        "transfer syntax",
    ),
    "syntax as numbers": (
        lambda: dicom_file(drawn_hand()).replace(b"\x02\0\x10\0UI\x14\0", b"\x02\0\x10\0UL\x15\0"),
        InvalidRadiographError,
        "TransferSyntaxUID is damaged",
    ),
    "sex as numbers": (
        lambda: dicom_file(drawn_hand(), elements={"PatientSex": "Secret"}).replace(
            b"\x10\0\x40\0CS\x06\0", b"\x10\0\x40\0UL\x06\0"
        ),
        InvalidRadiographError,
        "PatientSex is damaged",
    ),
    "no rows at all": (lambda: header(Rows=0), InvalidRadiographError, "has none"),
    "20,000 x 20,000": (lambda: header(Rows=20_000, Columns=20_000), ImageTooLargeError, "20000 x 20000"),
    "too many pixels": (lambda: header(Rows=8_000, Columns=8_000), ImageTooLargeError, "more than the limit"),
    "more rows than pixels": (lambda: header(Rows=97), InvalidRadiographError, "take 13968 bytes, not 13824"),
    "huge element": (
        lambda: appended(raw_element(0x0029, 0x1010, b"OB", 0xFFFFFF00, b"x")),
        InvalidRadiographError,
        "no pixel data",
    ),
    "huge sequence": (
        lambda: appended(raw_element(0x0029, 0x1010, b"SQ", 0xFFFFFFFE)),
        InvalidRadiographError,
        "no pixel data",
    ),
    "huge pixels": (
        lambda: dicom_file(drawn_hand()).replace(
            b"\xe0\x7f\x10\x00OW\0\0\0\x36\0\0", b"\xe0\x7f\x10\x00OW\0\0\xf0\xff\xff\xff"
        )[:-2],
        InvalidRadiographError,
        "not 13822",
    ),
    "a million elements": (
        lambda: appended(b"".join(raw_element(0x0029, 0x1000, b"LO", 0) for _ in range(1_000_000))),
        InvalidRadiographError,
        "more elements",
    ),
    "deep sequences": (
        lambda: appended(
            (raw_element(0x0029, 0x1010, b"SQ", 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)) * 5000
        ),
        InvalidRadiographError,
        "damaged",
    ),
    "slope NaN": (lambda: replaced_slope(b"NaN"), InvalidRadiographError, "RescaleSlope is not a finite number"),
    "slope infinite": (lambda: replaced_slope(b"1e999"), InvalidRadiographError, "RescaleSlope is not a finite"),
    "slope text": (lambda: replaced_slope(b"Secret"), InvalidRadiographError, "RescaleSlope is"),
    "slope 0": (lambda: replaced_slope(b"0"), InvalidRadiographError, "RescaleSlope is 0"),
    "slope overflows": (lambda: replaced_slope(b"1e308"), InvalidRadiographError, "not numbers"),
    "window of no width": (
        lambda: header(WindowCenter=100, WindowWidth=0),
        InvalidRadiographError,
        "WindowWidth is below 1",
    ),
    "unknown window": (
        lambda: header(WindowCenter=1, WindowWidth=9, VOILUTFunction="CUBIC"),
        InvalidRadiographError,
        "VOILUTFunction",
    ),
    "short table": (
        lambda: header(VOILUTSequence=_shortened(look_up_table(range(256), bits=8))),
        InvalidRadiographError,
        "VOILUTSequence",
    ),
    "huge table": (
        lambda: header(VOILUTSequence=look_up_table(range(65536)) * 20),
        InvalidRadiographError,
        "larger than any",
    ),
    "deflated bomb": (deflated_bomb, ImageTooLargeError, "inflates to more"),
    "RLE too short": (lambda: rle_of(b"\x81\x00" * 50), InvalidRadiographError, "segment of 6400 bytes, not 6912"),
    "RLE of no segments": (lambda: compressed(bytes(64), uid.RLELossless), InvalidRadiographError, "0 segments, not 2"),
    "codestream of another size": (
        lambda: compressed(frame_of(uid.JPEG2000Lossless), rows=95),
        InvalidRadiographError,
        "96 x 72 x 1, its header says 95 x 72 x 1",
    ),
    "codestream of another kind": (
        lambda: compressed(frame_of(uid.JPEGLSLossless)),
        InvalidRadiographError,
        "does not start like",
    ),
    "lossless JPEG as baseline": (
        lambda: compressed(frame_of(uid.JPEGLosslessSV1), uid.JPEGBaseline8Bit),
        InvalidRadiographError,
        "pixel data are not JPEG Baseline",
    ),
    "JPEG 2000 in tiny tiles": (lambda: j2k_of(side=6000, tile=16), InvalidRadiographError, "tiles"),
    "JPEG 2000 in tiny precincts": (lambda: j2k_of(side=6000, precincts=1), InvalidRadiographError, "precincts"),
    "more bits than stored": (
        lambda: dicom_file(
            drawn_hand(bits=16),
            syntax=uid.JPEG2000Lossless,
            bits_stored=16,
            elements={"BitsStored": 12, "HighBit": 11},
        ),
        InvalidRadiographError,
        "more than 12 bits",
    ),
    "no fragments": (
        lambda: dicom_file(drawn_hand(), syntax=uid.JPEG2000, pixel_data=struct.pack("<HHI", 0xFFFE, 0xE000, 0)),
        InvalidRadiographError,
        "no frame",
    ),
}


def _shortened(sequence: list[Dataset]) -> list[Dataset]:
    sequence[0]["LUTData"].value = bytes(20)
    return sequence


@pytest.mark.parametrize("name", CASES)
def test_bad_files_are_refused_with_field_and_reason(name):
    """Each bad file gets its own error, which names the field, soon and without a word of the patient."""
    build, kind, reason = CASES[name]
    data = build()
    started = time.process_time()
    with pytest.raises(InvalidRadiographError, match=reason) as refused:
        decode_dicom(data, limits=LIMITS)
    assert time.process_time() - started < TIME_LIMIT_S
    assert type(refused.value) is kind
    assert refused.value.field == "radiograph.dicom"
    told = "".join(traceback.format_exception(refused.value))
    assert not any(secret in told for secret in (PATIENT_NAME, "Secret", STUDY_UID))


def test_runs_beyond_the_image_are_not_decoded():
    """A segment that stands for half a gigabyte gives the image's own bytes and takes no more."""
    assert not decode_dicom(rle_of(b"\x81\x00" * 4_000_000), limits=LIMITS).pixels.any()


def test_bad_files_take_little_memory_and_leave_no_trace():
    """All bad files are refused in a process that may take 512 MiB more than before each, and that prints nothing."""
    child = subprocess.run(
        [sys.executable, __file__], capture_output=True, text=True, timeout=120, check=False, env=_environment()
    )
    assert child.returncode == 0, child.stderr[-2000:]
    assert int(child.stdout) == len(CASES)
    assert child.stderr == ""


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": ":".join(path for path in sys.path if path), "OMP_NUM_THREADS": "1"}


def _refuse_all_within_memory() -> None:
    """Decode every case below a limit on the address space, and print how many were refused."""
    decode_dicom(dicom_file(drawn_hand(), syntax=uid.JPEG2000Lossless), limits=LIMITS)
    print(sum(_refused(build(), kind) for build, kind, _ in CASES.values()))  # noqa: T201 - read by the test above


def _refused(data: bytes, kind: type[Exception]) -> bool:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + MEMORY_LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        decode_dicom(data, limits=LIMITS)
    except kind:
        return True
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return False


if __name__ == "__main__":
    _refuse_all_within_memory()
