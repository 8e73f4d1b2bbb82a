"""Turns the bytes of a radiograph into grey levels; headers are checked against limits before any pixel is decoded.

It must not decide anything about the hand: it says what the file shows, or which field cannot be read and why. No
value of a header ever enters an error's text, except sizes and bit depths.
"""

from services.core.adapters.imaging.decoded import Decoded
from services.core.adapters.imaging.dicom import decode_dicom
from services.core.adapters.imaging.encoded import decode_encoded
from services.core.adapters.imaging.limits import Limits
from services.core.adapters.imaging.raw import decode_raw

__all__ = ["Decoded", "Limits", "decode_dicom", "decode_encoded", "decode_raw"]
