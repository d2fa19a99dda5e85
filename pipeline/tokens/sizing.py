"""How large an image should be sent: as large as the model looks at, never larger than it is.

Sizes are (width, height) in pixels, upright (after EXIF rotation).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SizeRule:
    """Fit the longer side into `max_side`, then the shorter one into `max_short_side` (pixels)."""

    max_side: int
    max_short_side: int | None = None

    def target(self, width: int, height: int) -> tuple[int, int]:
        """The size to send a `width` x `height` image in. Never larger than the image, never below 1 pixel.

        Both limits are applied as one scale and the result is rounded down once, as published; whole numbers
        keep 4032 * 1024 / 4032 from becoming 1023.
        """
        longer, shorter = max(width, height), min(width, height)
        limit, side = min(self.max_side, longer), longer
        if self.max_short_side is not None and self.max_short_side * side < limit * shorter:
            limit, side = self.max_short_side, shorter
        return max(1, width * limit // side), max(1, height * limit // side)

    def keeps(self, width: int, height: int) -> bool:  # noqa: ARG002 - a limit in pixels holds for every image
        """No image beyond the limits is sent as it is."""
        return False


OPENAI_HIGH = SizeRule(2048, 768)
"""OpenAI, "Images and vision": high detail is scaled to fit 2048 x 2048, then to a short side of 768."""

OPENAI_LOW = SizeRule(512)
"""OpenAI, "Images and vision": low detail looks at 512 x 512."""
