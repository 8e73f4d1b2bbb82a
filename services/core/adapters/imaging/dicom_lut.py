"""Reads the look-up tables of a DICOM header (PS3.3 C.11.1.1, C.11.2.1.1) from their raw bytes.

The bytes say it all, whereas the declared type of these elements depends on others and is often wrong.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from services.core.adapters.imaging.dicom_values import FIELD
from services.core.errors import InvalidRadiographError

DESCRIPTOR, DATA = BaseTag(0x00283002), BaseTag(0x00283006)
# A table has at most 65,536 entries of two bytes, and a header may offer a few.
MAXIMUM_SEQUENCE_BYTES: Final = 2**20
WIDEST_TABLE: Final = 2**16


@dataclass(frozen=True, slots=True)
class LookUpTable:
    """Entries (N,) for the inputs from `first` on, each of `bits` bits; an input outside them takes the nearest."""

    entries: NDArray[np.float64]
    first: int
    bits: int

    def values(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """The entry for each input."""
        places = np.clip(np.rint(inputs) - self.first, 0, self.entries.size - 1)
        return np.asarray(self.entries[places.astype(np.intp)])

    def scaled(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """The entry for each input, as a share of the greatest that `bits` bits hold."""
        return np.clip(self.values(inputs) / ((1 << self.bits) - 1), 0, 1)


def look_up_table(dataset: Dataset, keyword: str, *, signed_input: bool) -> LookUpTable | None:
    """The first table of the sequence `keyword`; None where there is none. Raises InvalidRadiographError."""
    if keyword not in dataset:
        return None
    raw = dataset.get_item(keyword)
    if isinstance(raw, RawDataElement) and len(raw.value or b"") > MAXIMUM_SEQUENCE_BYTES:
        raise InvalidRadiographError(f"{keyword} is larger than any look-up table", field=FIELD)
    items = dataset[keyword].value
    if not items:
        return None
    descriptor, data = items[0].get_item(DESCRIPTOR), items[0].get_item(DATA)
    if not (isinstance(descriptor, RawDataElement) and isinstance(data, RawDataElement)):
        raise InvalidRadiographError(f"{keyword} holds no look-up table", field=FIELD)
    return _table(keyword, descriptor, data, signed_input=signed_input)


def _table(keyword: str, descriptor: RawDataElement, data: RawDataElement, *, signed_input: bool) -> LookUpTable:
    order = "<" if descriptor.is_little_endian else ">"
    count, first, bits = (int(word) for word in np.frombuffer(descriptor.value or b"", f"{order}u2", count=3))
    if descriptor.VR == "SS" or (descriptor.VR != "US" and signed_input):
        first = int(np.uint16(first).astype(np.int16))
    count = count or WIDEST_TABLE
    bytes_per_entry = 2 if len(data.value or b"") >= 2 * count else 1
    entries = np.frombuffer(data.value or b"", f"{order}u{bytes_per_entry}")[:count]
    if entries.size < count or not 1 <= bits <= 16:  # noqa: PLR2004 - entries are words of 16 bits
        raise InvalidRadiographError(f"{keyword} does not hold the entries it declares", field=FIELD)
    return LookUpTable(entries.astype(np.float64), first, bits)
