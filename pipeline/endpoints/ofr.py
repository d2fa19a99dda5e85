"""OFR, "optical feature recognition": an image in, names of what is in it out, as Google's Vision has them.

Verified against documents, and against no live endpoint: the request in AI/ML API's OpenAPI file
(`Vision.v1.VisionRequestDTO`, api-docs, commit f14fa72), whose `POST /vision` stands beside `/v1` and takes no key of
a model; its page is hidden since July 2026. Not verified: the response, which no document of AI/ML API describes, and
is read as Google's `AnnotateImageResponse`; and that a data URL is taken as `imageUri`, the only field for an image.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipeline.config.sections import RequestConfig
from pipeline.endpoints.ofr_response import read_ofr
from pipeline.endpoints.one_image import OneImageTemplate
from pipeline.endpoints.other_models import OtherModel
from pipeline.endpoints.reading import Response
from pipeline.endpoints.traits import Traits
from pipeline.errors import InputError
from pipeline.records import Answer, Failure

_TRAITS: Final = Traits(columns=("features",), bills_pages=True, max_images=1, takes_documents=False, model="ofr")


@dataclass(frozen=True, slots=True)
class OfrAdapter:
    """The adapter of the task `ofr`."""

    path: str = "/vision"
    other_models: tuple[OtherModel, ...] = ()
    traits: Traits = _TRAITS

    def template(self, request: RequestConfig, model: str, max_tokens_field: str) -> OneImageTemplate:  # noqa: ARG002
        asked = request.ofr
        beside = {"maxResults": asked.max_results, "model": asked.model}
        given = {name: value for name, value in beside.items() if value is not None}
        fields: dict[str, Any] = {"features": [{"type": name, **given} for name in asked.features]}
        if asked.image_context is not None:
            fields["imageContext"] = asked.image_context
        if twice := next((name for name in request.extra if name in {"image", *fields}), None):
            raise InputError(f"request.extra.{twice}: `request.ofr` says it; take it out of `request.extra`")
        is_url = asked.image_field == "imageUri"

        def body(media_type: str, base64: str, address: str | None) -> Mapping[str, Any]:
            url = address or f"data:{media_type};base64,{base64}"
            image = {"source": {"imageUri": url}} if is_url or address else {"content": base64}
            return {"image": image, **fields, **request.extra}

        return OneImageTemplate(body, model)

    def read(self, response: Response) -> Answer | Failure:
        return read_ofr(response)


OFR: Final = OfrAdapter()
