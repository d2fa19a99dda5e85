"""A chat request as read: what is asked, and what the images show."""

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.emulator.answers import prompt_tokens
from pipeline.emulator.api_errors import ApiError, no_pdf, unreadable_image, unsupported_image
from pipeline.emulator.apis import Api
from pipeline.emulator.billing import Billing
from pipeline.emulator.chat_request import ChatRequest, SentImage, parse_json
from pipeline.emulator.documents import UnreadableDocumentError, look_at_document
from pipeline.emulator.pixels import Look, UnreadableImageError, UnsupportedImageError, look_at
from pipeline.emulator.remote_images import with_remote_images
from pipeline.emulator.stats import image_hash


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as read, its images looked at and its tokens of text and of images counted, or its error."""

    body: object
    request: ChatRequest | None = None
    looks: tuple[Look, ...] = ()
    hashes: tuple[bytes, ...] = ()
    prompt: tuple[int, int] = (0, 0)
    error: ApiError | None = None


def see(
    body: bytes, api: Api, serves: Callable[[str], bool], *, decode: bool, fetch: bool = False, billing: Billing
) -> Seen:
    """Read a body of this API. `serves` says whether a model is known.

    With `decode=False` only headers of images are read; with `fetch` images are fetched that stand behind an address.
    """
    payload: object = None
    try:
        payload = parse_json(body)
        asked = api.parse(with_remote_images(payload) if fetch else payload, serves, billing)
        looks = tuple(_look(image, decode=decode) for image in asked.images)
    except ApiError as error:
        return Seen(payload, error=error)
    tokens = prompt_tokens(asked, looks, billing) if api.bills_tokens else (0, 0)
    return Seen(payload, asked, looks, tuple(map(image_hash, asked.images)), tokens)


def _look(image: SentImage, *, decode: bool) -> Look:
    try:
        if image.is_document:
            return look_at_document(image.data, decode=decode)
        return look_at(image.data, decode=decode)
    except UnsupportedImageError:
        raise unsupported_image(image.param) from None
    except UnreadableDocumentError as error:
        raise no_pdf(f"{image.param}.file_data", str(error)) from None
    except UnreadableImageError as error:
        raise unreadable_image(image.param, str(error)) from None
