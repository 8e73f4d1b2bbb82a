"""How large a radiograph may be; checked on what a header declares, before memory is taken for it."""

from dataclasses import dataclass

from services.core.errors import ImageTooLargeError, InvalidRadiographError


@dataclass(frozen=True, slots=True)
class Limits:
    """Greatest sizes that are decoded; 40 million pixels hold a 35 x 43 cm plate at 16 pixels per mm."""

    maximum_pixels: int = 40_000_000
    maximum_side: int = 16_384
    maximum_bytes: int = 96 * 2**20

    def check_bytes(self, count: int, *, field: str) -> None:
        """Raise InvalidRadiographError where nothing was sent, ImageTooLargeError above `maximum_bytes`."""
        if count == 0:
            raise InvalidRadiographError("is empty", field=field)
        if count > self.maximum_bytes:
            raise ImageTooLargeError(f"{count} bytes are more than the limit of {self.maximum_bytes}", field=field)

    def check_size(self, height: int, width: int, *, field: str) -> None:
        """Raise InvalidRadiographError for an image without pixels, ImageTooLargeError for too many."""
        if height < 1 or width < 1:
            raise InvalidRadiographError(f"an image of {height} x {width} pixels has none", field=field)
        if max(height, width) > self.maximum_side:
            raise ImageTooLargeError(
                f"{height} x {width} pixels: a side is longer than the limit of {self.maximum_side}", field=field
            )
        if height * width > self.maximum_pixels:
            raise ImageTooLargeError(
                f"{height} x {width} pixels are more than the limit of {self.maximum_pixels}", field=field
            )
