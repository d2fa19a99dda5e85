"""Your own facts: prices, and families of models."""

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from pipeline.config.base_urls import normalise_base_url
from pipeline.config.sections import Section
from pipeline.config.setting import Setting
from pipeline.config.types import Dollars, PositiveDollars, host_name

_PLAIN: Final = re.compile(r"[\w.:/@-]+")
"""Names of models that a shell and TOML leave as they are."""


class OwnPrice(Section):
    """Your price of one model, in US dollars. It replaces every published price."""

    model: Annotated[str, Field(min_length=1)]
    """A name, or a shell pattern, with or without a gateway's prefix."""
    base_url: Annotated[str, AfterValidator(normalise_base_url)] | None = None
    """Only at this endpoint; None: wherever it is asked."""
    input_usd_per_mtok: Dollars | None = None
    """A million tokens; so the next two."""
    output_usd_per_mtok: Dollars | None = None
    cached_usd_per_mtok: Dollars | None = None
    usd_per_image: Dollars | None = None
    usd_per_page: Dollars | None = None
    """Of OCR and OFR, to which an image is one page."""
    usd_per_request: Dollars | None = None
    source: str = "own price"
    checked_on: date | None = None

    @model_validator(mode="after")
    def _says_a_price(self) -> Self:
        by_token = self.input_usd_per_mtok is not None and self.output_usd_per_mtok is not None
        half = (self.input_usd_per_mtok is None) != (self.output_usd_per_mtok is None)
        flat = self.usd_per_image, self.usd_per_page, self.usd_per_request
        if half or not (by_token or any(amount is not None for amount in flat)):
            raise ValueError(
                f"the price of {self.model!r} needs input_usd_per_mtok and output_usd_per_mtok, "
                "or usd_per_image, or usd_per_page, or usd_per_request"
            )
        return self


class PricesConfig(Section):
    """Your own prices, which replace published ones."""

    usd_per_hour: Annotated[
        PositiveDollars | None,
        Setting("The price per hour of machines that serve the model without a price per token."),
    ] = None
    models: Annotated[
        tuple[OwnPrice, ...], Setting("Prices per model, as tables `[[prices.models]]`; the first match counts.")
    ] = ()


def way_to_price(model: str | None) -> str:
    """How a user gives the price of a model that none is known of, for the end of a message."""
    name = model if model and _PLAIN.fullmatch(model) else "*"
    entry = f'{{model="{name}",input_usd_per_mtok=0.1,output_usd_per_mtok=0.4}}'
    return f"to give yours, in dollars for a million tokens: `prices.models=[{entry}]`"


class CatalogueConfig(Section):
    """Facts about models beyond those of the package."""

    file: Annotated[Path | None, Setting("A file of model families, which replace those of the package.")] = None
    host: Annotated[
        Annotated[str, AfterValidator(host_name)] | None,
        Setting("The host whose token rules apply behind a gateway, for example `siliconflow.cn`."),
    ] = None
