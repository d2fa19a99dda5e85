"""Settings of `[source]` about where images may be: hosts that are asked, and files that are opened."""

from typing import Annotated

from pydantic import Field

from pipeline.config.setting import Setting

AllowPrivateHosts = Annotated[
    bool, Setting("Fetch images from private networks and this machine too.", keyword="allow_private_hosts")
]
PerHost = Annotated[int, Field(ge=1, le=1024), Setting("The most requests for images to one host at once.")]
Confine = Annotated[bool, Setting("Refuse files outside the manifest's folder, also those behind links in it.")]
