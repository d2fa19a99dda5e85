"""Which family of the catalogue the model of an endpoint belongs to."""

from pipeline.catalogue import Family, family_named, first_family
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import EndpointConfig


def family_for(config: RunConfig, one: EndpointConfig | None = None) -> Family | None:
    """The family of the model that an endpoint (None: the first) is asked for: as the user says, else by the name that
    the endpoint has for it, else by its own; None where no family matches.
    """
    named, own = config.request.model_family, config.catalogue.file
    if named is not None:
        return family_named(named, own)
    names = (one or config.all_endpoints[0]).model, config.request.model
    return first_family([name for name in names if name], own)
