"""How many tokens an image is billed at, and at which size the model looks at it, by the published rules.

A rule answers for any (width, height, detail): `tokens` with what to expect and the bounds of it, `looked_at` with the
largest size at which nothing is lost and the bill stays the same. Which model has which rule, the catalogue says.
"""

from pipeline.tokens.anthropic import AnthropicArea, AnthropicPatches
from pipeline.tokens.base import AUTO, TokenRange, TokenRule
from pipeline.tokens.bounds import GrokTiles, SpanningRule, UnknownRule, accepted, rejects_shape, spanning
from pipeline.tokens.building import KINDS, token_rule
from pipeline.tokens.gemini import GeminiCrops, GeminiGrid
from pipeline.tokens.openai import TILE_SIDE, OpenAIPatches, OpenAITiles, PatchLimits
from pipeline.tokens.openweights import LlamaCanvas, MistralRows, QwenResize

__all__ = [
    "AUTO",
    "KINDS",
    "TILE_SIDE",
    "AnthropicArea",
    "AnthropicPatches",
    "GeminiCrops",
    "GeminiGrid",
    "GrokTiles",
    "LlamaCanvas",
    "MistralRows",
    "OpenAIPatches",
    "OpenAITiles",
    "PatchLimits",
    "QwenResize",
    "SpanningRule",
    "TokenRange",
    "TokenRule",
    "UnknownRule",
    "accepted",
    "rejects_shape",
    "spanning",
    "token_rule",
]
