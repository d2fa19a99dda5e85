"""Settings of `[source]`: odd rows, and where images may be."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.setting import Setting

SeveralImages = Annotated[
    bool, Setting("Records from standard input have several images; other sources show it themselves.")
]
SkipBadRows = Annotated[bool, Setting("Skip manifest rows that cannot be read.", keyword="skip_bad_rows")]
OnDuplicateId = Annotated[
    Literal["error", "first"],
    Setting("What a repeated id does: end the command, or keep the first row.", keyword="on_duplicate_id"),
]
MaxRecordKb = Annotated[
    int, Field(ge=1, le=32_768), Setting("The largest size of a row's other columns as JSON, in KiB.")
]
AllowPrivateHosts = Annotated[
    bool, Setting("Fetch images from private networks and this machine too.", keyword="allow_private_hosts")
]
PerHost = Annotated[int, Field(ge=1, le=1024), Setting("The most requests for images to one host at once.")]
Confine = Annotated[bool, Setting("Refuse files outside the manifest's folder, also those behind links in it.")]
