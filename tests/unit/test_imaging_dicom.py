"""What a DICOM file shows, in every form that is written: the same hand must come out of all of them."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread
from pydicom.pixels.processing import apply_modality_lut, apply_voi, apply_windowing

from services.core.adapters.imaging import Limits, decode_dicom
from services.core.adapters.imaging.dicom import pixel_layout
from services.core.adapters.imaging.dicom_file import read_dicom_file
from services.core.adapters.imaging.stored_pixels import read_codes
from services.core.domain.preprocess import standardise
from tests.conftest import dicom_folder
from tests.radiographs import LOSSLESS, NATIVE, STUDY_UID, dicom_file, drawn_hand, look_up_table

LIMITS = Limits()
LOSSLESS_SAMPLES = ("RG3_J2KR.dcm", "RG3_JLSL.dcm", "RG3_JPLL.dcm", "RG3_RLE.dcm")
LOSSY_SAMPLES = ("RG3_J2KI.dcm", "RG3_JLSN.dcm")


def pixels(data: bytes):
    """The decoded grey levels of a file."""
    return decode_dicom(data, limits=LIMITS).pixels


@pytest.fixture(scope="module")
def samples() -> Path:
    """The folder of the public sample files."""
    return dicom_folder()


@pytest.mark.parametrize("syntax", [*NATIVE, *LOSSLESS], ids=lambda syntax: syntax.name)
def test_every_lossless_syntax_gives_the_same_image(syntax):
    """A transfer syntax that loses nothing changes no pixel."""
    hand = drawn_hand()
    assert np.array_equal(pixels(dicom_file(hand, syntax=syntax)), pixels(dicom_file(hand)))


@pytest.mark.parametrize("bits", [8, 10, 16])
@pytest.mark.parametrize("syntax", LOSSLESS[1:], ids=lambda syntax: syntax.name)
def test_every_codec_gives_every_depth(syntax, bits):
    """Codecs that hold 8 bits in a byte and more in two give the same image, whatever the header allocated."""
    hand = drawn_hand(bits=bits)
    found = pixels(dicom_file(hand, syntax=syntax, bits_stored=bits))
    assert np.array_equal(found, pixels(dicom_file(hand, bits_stored=bits)))


@pytest.mark.parametrize("syntax", [*NATIVE, *LOSSLESS, uid.JPEGBaseline8Bit], ids=lambda syntax: syntax.name)
def test_eight_bit_pixels_are_shares_of_255(syntax):
    """An 8-bit image without a window is read as the same PNG file would be."""
    hand = drawn_hand(bits=8).astype(np.uint8)
    found = pixels(dicom_file(hand, syntax=syntax, bits_stored=8))
    np.testing.assert_allclose(found, hand / 255, atol=0.03 if syntax == uid.JPEGBaseline8Bit else 1e-6)


def test_lossy_jpeg_2000_stays_close():
    """Lossy compression changes grey levels a little, not the image."""
    hand = drawn_hand()
    difference = pixels(dicom_file(hand, syntax=uid.JPEG2000)) - pixels(dicom_file(hand))
    assert np.abs(difference).mean() < 0.02


@pytest.mark.parametrize("bits", range(10, 17))
def test_every_depth_gives_the_same_image(bits):
    """A hand stored with 10 to 16 bits looks the same to within their rounding."""
    hand = drawn_hand(bits=bits)
    found = pixels(dicom_file(hand, bits_stored=bits))
    expected = hand / (2**bits - 1)
    np.testing.assert_allclose(standardise(found), standardise(expected.astype(np.float32)), atol=1e-4)


@pytest.mark.parametrize("syntax", [*NATIVE, uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless], ids=str)
def test_signed_pixels_give_the_same_image(syntax):
    """Stored values below zero are values, not large ones."""
    hand = drawn_hand()
    signed = (hand.astype(np.int32) - 2048).astype(np.int16)
    assert np.array_equal(pixels(dicom_file(signed, syntax=syntax)), pixels(dicom_file(hand)))


def test_monochrome1_is_the_negative_of_monochrome2():
    """Low values of MONOCHROME1 are bright: the same hand stored inverted comes out the same."""
    hand = drawn_hand()
    inverted = dicom_file(np.asarray(4095 - hand, np.uint16), photometric="MONOCHROME1")
    np.testing.assert_allclose(pixels(inverted), pixels(dicom_file(hand)), atol=1e-6)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_presentation_lut_shape_inverse_inverts_once(photometric):
    """INVERSE says of MONOCHROME1 what is said already, and inverts MONOCHROME2."""
    hand = drawn_hand()
    elements = {"PresentationLUTShape": "INVERSE"}
    found = pixels(dicom_file(hand, photometric=photometric, elements=elements))
    assert np.array_equal(found, pixels(dicom_file(hand, photometric="MONOCHROME1")))


def test_a_hand_reads_the_same_with_and_without_a_window():
    """A window that keeps every grey level, no window, and a rescaling leave the same hand to the networks."""
    hand = drawn_hand()
    forms: tuple[dict[str, Any], ...] = (
        {},
        {"WindowCenter": 2048, "WindowWidth": 4096},
        {"WindowCenter": 3000, "WindowWidth": 9000},
        {"WindowCenter": 2047.5, "WindowWidth": 4095, "VOILUTFunction": "LINEAR_EXACT"},
        {"RescaleSlope": "0.25", "RescaleIntercept": "-1000"},
        {"VOILUTSequence": look_up_table(range(4096), bits=12)},
        {"ModalityLUTSequence": look_up_table(range(4096), bits=12)},
    )
    first, *others = (standardise(pixels(dicom_file(hand, elements=form))) for form in forms)
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-4)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(1000, 800), (40, 4000), (2048, 4096)])
def test_windows_are_those_of_pydicom(function, centre, width):
    """The three functions of PS3.3 C.11.2.1 agree with pydicom's own."""
    hand = drawn_hand()
    data = dicom_file(hand, elements={"WindowCenter": centre, "WindowWidth": width, "VOILUTFunction": function})
    expected = apply_windowing(hand, _parsed(data)) / 4095
    np.testing.assert_allclose(pixels(data), expected, atol=2e-6)


def test_look_up_tables_are_those_of_pydicom():
    """A modality LUT and a VOI LUT behind it agree with pydicom's own, with inputs outside the tables."""
    hand = drawn_hand()
    modality = look_up_table([int(4000 * (i / 3000) ** 0.5) for i in range(3000)], first=500, bits=16)
    voi = look_up_table([int(4095 * (i / 2000) ** 2) for i in range(2000)], first=1000, bits=12)
    data = dicom_file(hand, elements={"ModalityLUTSequence": modality, "VOILUTSequence": voi})
    dataset = _parsed(data)
    expected = apply_voi(apply_modality_lut(hand, dataset), dataset) / 4095
    np.testing.assert_allclose(pixels(data), expected, atol=1e-6)


def test_a_look_up_table_may_start_below_zero():
    """The first input of a table for signed pixels is itself signed."""
    signed = np.array([[-3, -2], [-1, 0]], np.int16)
    table = look_up_table([0, 85, 170, 255], first=-3, bits=8)
    found = pixels(dicom_file(signed, elements={"VOILUTSequence": table}))
    np.testing.assert_allclose(found, [[0, 1 / 3], [2 / 3, 1]], atol=1e-6)


def test_padding_is_background_and_does_not_count_for_the_range():
    """Pixels that only fill the frame are black and stretch nothing."""
    hand = drawn_hand()
    padded = hand.copy()
    padded[:, :10] = 65535
    found = pixels(dicom_file(padded, bits_stored=16, elements={"PixelPaddingValue": 65535}))
    rest = pixels(dicom_file(np.ascontiguousarray(hand[:, 10:]), bits_stored=16))
    assert not found[:, :10].any()
    assert np.array_equal(found[:, 10:], rest)


def test_padding_of_monochrome1_is_background_too():
    """Padding is black whichever way the grey scale runs, and may be a range."""
    hand = np.clip(drawn_hand(), 20, 4095).astype(np.uint16)
    hand[:4] = 7
    elements = {"PixelPaddingValue": 5, "PixelPaddingRangeLimit": 10}
    found = pixels(dicom_file(hand, photometric="MONOCHROME1", elements=elements))
    assert not found[:4].any()
    assert found[4:].max() == 1


def test_bits_beside_the_stored_ones_are_no_part_of_a_pixel():
    """Values shifted up to a higher bit, with other bits set below, are read as stored."""
    hand = drawn_hand()
    shifted = np.asarray((hand << 4) | 0xA, np.uint16)
    found = pixels(dicom_file(shifted, elements={"HighBit": 15}))
    assert np.array_equal(found, pixels(dicom_file(hand)))


def test_noise_of_an_empty_image_is_not_stretched_to_contrast():
    """Ten grey levels of 4096 stay as close together as 8 bits would show them."""
    flat = np.asarray(2000 + drawn_hand() % 10, np.uint16)
    found = pixels(dicom_file(flat))
    assert found.max() - found.min() < 0.04


@pytest.mark.parametrize(("value", "level"), [(0, 0), (4095, 1)])
def test_an_image_of_one_level_stays_one(value, level):
    """All black is black and all white is white."""
    found = pixels(dicom_file(np.full((32, 24), value, np.uint16)))
    assert np.array_equal(found, np.full((32, 24), level, np.float32))


@pytest.mark.parametrize(("header", "sex"), [("M", "male"), ("F", "female"), ("O", None), ("", None), ("m ", "male")])
def test_sex_is_the_headers(header, sex):
    """Male and female are known; other and empty are not said."""
    assert decode_dicom(dicom_file(drawn_hand(), elements={"PatientSex": header}), limits=LIMITS).sex == sex


def test_the_study_is_known_by_its_uid():
    """The study's UID is handed on to be hashed; a file without one is read all the same."""
    assert decode_dicom(dicom_file(drawn_hand()), limits=LIMITS).study_uid_hash_key == STUDY_UID
    without = dicom_file(drawn_hand(), elements={"StudyInstanceUID": ""})
    assert decode_dicom(without, limits=LIMITS).study_uid_hash_key is None


@pytest.mark.parametrize("name", LOSSLESS_SAMPLES)
def test_lossless_samples_are_one_image(samples, name):
    """The public sample in all lossless syntaxes is one image, whose stored values sum up as published."""
    data = (samples / name).read_bytes()
    decoded = decode_dicom(data, limits=LIMITS)
    reference = pixels((samples / LOSSLESS_SAMPLES[0]).read_bytes())
    assert np.array_equal(decoded.pixels, reference)
    assert decoded.sex == "female"
    assert _stored_sum(data) == 1030616989


@pytest.mark.parametrize("name", LOSSY_SAMPLES)
def test_lossy_samples_are_nearly_that_image(samples, name):
    """The lossy forms of the public sample differ by a grey level or two."""
    reference = pixels((samples / LOSSLESS_SAMPLES[0]).read_bytes())
    found = pixels((samples / name).read_bytes())
    assert np.abs(found - reference).mean() < 0.005


def test_the_thorax_is_read_as_published(samples):
    """A DX image, MONOCHROME1 with INVERSE, is inverted once: 255 is black."""
    data = (samples / "highdicom_dx_image.dcm").read_bytes()
    stored = _parsed(data).pixel_array
    np.testing.assert_allclose(pixels(data), 1 - stored / 255, atol=1e-6)


def _parsed(data: bytes) -> Dataset:
    return dcmread(BytesIO(data))


def _stored_sum(data: bytes) -> int:
    file = read_dicom_file(data, maximum_bytes=LIMITS.maximum_bytes)
    return int(read_codes(file, pixel_layout(file.dataset)).sum(dtype=np.int64))
