"""Pictures that clients upload, made by Pillow."""

import io

from PIL import Image


def make_noise(size: tuple[int, int]) -> bytes:
    """A PNG picture that no format makes much smaller."""
    written = io.BytesIO()
    Image.effect_noise(size, 100).convert("RGB").save(written, "PNG")
    return written.getvalue()


def make_picture(
    kind: str = "PNG", size: tuple[int, int] = (640, 320), colour: str = "red", **options: object
) -> bytes:
    """A picture in one colour, but for its left upper quarter, which is blue."""
    image = Image.new("RGB", size, colour)
    image.paste("blue", (0, 0, size[0] // 2, size[1] // 2))
    written = io.BytesIO()
    image.save(written, kind, **options)
    return written.getvalue()


def read_picture(content: bytes) -> Image.Image:
    """A picture, decoded."""
    return Image.open(io.BytesIO(content))
