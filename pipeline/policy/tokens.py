"""How many tokens an image is billed at, by the published rules."""

from dataclasses import dataclass

from pipeline.policy.sizing import OPENAI_HIGH

TILE_SIDE = 512


@dataclass(frozen=True, slots=True)
class TileRule:
    """OpenAI's tile rule: `base` tokens, and `tile` more for each 512-pixel square of the resized image.

    Source: OpenAI, "Images and vision"; Microsoft, "Azure OpenAI: image tokens overview".
    """

    name: str
    base: int
    tile: int

    def tokens(self, width: int, height: int, detail: str) -> int:
        """Tokens billed for an image that arrives as `width` x `height` pixels (upright).

        The size is the one that `OPENAI_HIGH` sends, so that pre-sizing an image never changes its price.
        """
        if detail == "low":
            return self.base
        scaled_width, scaled_height = OPENAI_HIGH.target(width, height)
        return self.base + _tiles(scaled_width) * _tiles(scaled_height) * self.tile


def _tiles(side: int) -> int:
    return -(-side // TILE_SIDE)
