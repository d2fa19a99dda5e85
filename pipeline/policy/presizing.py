"""At which size an image is sent: the largest at which this model loses nothing of what it would look at itself."""

from dataclasses import dataclass
from typing import Protocol

from pipeline.policy.sizing import SizeRule
from pipeline.policy.tokens import TokenRule


class Target(Protocol):
    """Says in which size a `width` x `height` image (upright pixels) is sent; never larger."""

    def target(self, width: int, height: int) -> tuple[int, int]: ...


@dataclass(frozen=True, slots=True)
class LookedAt:
    """What a model with this rule looks at, within the user's own limit (`images.max_side`)."""

    rule: TokenRule
    detail: str
    max_side: int | None = None

    def target(self, width: int, height: int) -> tuple[int, int]:
        size = self.rule.looked_at(width, height, self.detail)
        return size if self.max_side is None else SizeRule(self.max_side).target(*size)
