"""Labels: answers as JSON of one schema. Everything about that schema is here, and nothing about where it is sent.

`loading` makes one line of JSON of a file or a pydantic model, which the configuration holds from then on; `schema` is
that text, checked. `strict` is its form for the strict mode of structured outputs, or why it has none. `shape` are the
fields of a row, or why the labels are one JSON text, and `arrow` the type of the column. `sending` is what a request
says of a schema. `extraction` and `reading` make labels of an answer's text, or say what is wrong with it.
"""
