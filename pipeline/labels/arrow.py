"""The Arrow type of the column `labels`."""

import pyarrow as pa

from pipeline.labels.schema import LabelSchema
from pipeline.labels.shape import Fields, Items, OpenSchemaError, Shape, shape_of

_SCALARS = {"text": pa.string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}


def type_of(schema_text: str) -> pa.DataType:
    """A struct with a field for each property; text (of JSON) where the schema is recursive or open."""
    try:
        return _type(shape_of(LabelSchema.of(schema_text)))
    except OpenSchemaError:
        return pa.string()


def _type(shape: Shape) -> pa.DataType:
    match shape:
        case Fields(fields):
            return pa.struct([pa.field(name, _type(one)) for name, one in fields])
        case Items(of):
            return pa.list_(_type(of))
    return _SCALARS[shape.kind]
