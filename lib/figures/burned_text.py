"""Text in the pixels of a picture, where nothing beside it can be relied on to travel along."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def burn_text(picture: np.ndarray, lines: list[str]) -> np.ndarray:
    """Write lines of text into the upper left corner, white on black.

    Parameters
    ----------
    picture : uint8 array (H, W, 3)
    lines : list of str
        The size of the letters follows the longest: the text takes at most the width of the picture.

    Returns
    -------
    uint8 array (H, W, 3)
        A copy.
    """
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    size = max(8, min(picture.shape[0] // 28, round(1.7 * picture.shape[1] / max(map(len, lines)))))
    font = ImageFont.load_default(size=size)
    draw.rectangle((0, 0, picture.shape[1], round(1.3 * size * len(lines)) + 2), fill=(0, 0, 0))
    for number, line in enumerate(lines):
        draw.text((3, round(1.3 * size * number)), line, fill=(255, 255, 255), font=font)
    return np.array(image)
