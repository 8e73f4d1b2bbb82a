"""Where a square window of one image lies on the same image at another size."""

from services.core.domain.preprocess import Square


def scale_square(square: Square, *, source: tuple[int, int], target: tuple[int, int]) -> Square:
    """The square on an image of `source` (height, width), carried to the same image at `target` (height, width).

    Where the aspect differs the window would be an oblong: the square of its long side around its centre stands for it.
    """
    vertical, horizontal = target[0] / source[0], target[1] / source[1]
    side = max(1, round(square.side * max(vertical, horizontal)))
    centre_x = (square.x + square.side / 2) * horizontal
    centre_y = (square.y + square.side / 2) * vertical
    return Square(x=round(centre_x - side / 2), y=round(centre_y - side / 2), side=side)
