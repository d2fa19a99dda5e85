"""An expression of `where` as a pyarrow expression, checked against the columns of an output directory."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.store.expression import (
    And,
    Comparison,
    IsIn,
    IsNull,
    Like,
    Literal,
    Name,
    Not,
    Or,
    Term,
    fail,
    parse,
)

_LARGEST_INT = 2**63 - 1
_SIGNS: dict[str, Callable[[pc.Expression, pc.Expression], pc.Expression]] = {
    "=": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


def to_arrow(where: str, columns: pa.Schema) -> pc.Expression:
    """The filter that `where` means, with SQL's three-valued logic: a row passes where it is true.

    Raises InputError, with the position, for a text that is no expression, a column that `columns` does not have, or a
    value that a column cannot be compared with.
    """
    term = parse(where)
    expression = _Translator(where, columns).of(term)
    try:
        pa.Table.from_batches([], schema=columns).filter(expression)
    except (pa.ArrowException, ValueError, TypeError) as error:
        fail(where, 0, f"cannot be applied to these columns ({error})")
    return expression


class _Translator:
    """Translates the terms of one expression."""

    def __init__(self, text: str, columns: pa.Schema) -> None:
        self._text, self._columns = text, columns

    def of(self, term: Term) -> pc.Expression:  # noqa: PLR0911 - one line for each kind of term
        """The expression of one term."""
        match term:
            case And(terms):
                return _joined([self.of(one) for one in terms], lambda left, right: left & right)
            case Or(terms):
                return _joined([self.of(one) for one in terms], lambda left, right: left | right)
            case Not(negated):
                return ~self.of(negated)
            case IsNull(name):
                return self._field(name)[0].is_null()
            case IsIn(name, values):
                return self._is_in(name, values)
            case Like(name, pattern):
                return self._like(name, pattern)
            case Comparison(sign, left, right):
                return self._compared(sign, left, right)

    def _is_in(self, name: Name, values: Sequence[Literal]) -> pc.Expression:
        field, kind = self._field(name)
        found = _joined(
            [field == pc.scalar(self._scalar(name, kind, value)) for value in values], lambda left, right: left | right
        )
        return pc.if_else(field.is_null(), pa.scalar(None, pa.bool_()), found)

    def _like(self, name: Name, pattern: Literal) -> pc.Expression:
        field, kind = self._field(name)
        if not pa.types.is_string(kind) or not isinstance(pattern.value, str):
            fail(self._text, pattern.at, f"LIKE compares text; {name} is {kind}")
        return pc.match_like(field, self._text_of(pattern.value, pattern.at))

    def _compared(self, sign: str, left: Name, right: Name | Literal) -> pc.Expression:
        field, kind = self._field(left)
        if isinstance(right, Literal):
            return _SIGNS[sign](field, pc.scalar(self._scalar(left, kind, right)))
        other, other_kind = self._field(right)
        if _class_of(kind) is None or _class_of(kind) != _class_of(other_kind):
            fail(self._text, right.at, f"{left} ({kind}) cannot be compared with {right} ({other_kind})")
        return _SIGNS[sign](field, other)

    def _field(self, name: Name) -> tuple[pc.Expression, pa.DataType]:
        """A column or a field of one, and its type."""
        first, *fields = name.path
        if first not in self._columns.names:
            hint = f"; a text stands in single quotes: '{first}'" if self._text[name.at] == '"' else ""
            self._unknown(name, f"no column {first!r}", self._columns.names, hint)
        kind = self._columns.field(first).type
        for field in fields:
            known = [one.name for one in kind] if pa.types.is_struct(kind) else []
            if field not in known:
                self._unknown(name, f"no field {field!r} in {first}", known)
            kind = kind.field(field).type
        return pc.field(*name.path) if fields else pc.field(first), kind

    def _unknown(self, name: Name, why: str, known: Sequence[str], hint: str = "") -> None:
        fail(self._text, name.at, f"{why}; known: {', '.join(known) or 'none'}{hint}")

    def _scalar(self, name: Name, kind: pa.DataType, literal: Literal) -> pa.Scalar:
        """The literal as a value that a column of this type is compared with."""
        value = literal.value
        match _class_of(kind), value:
            case "text", str():
                return pa.scalar(self._text_of(value, literal.at))
            case "truth", bool():
                return pa.scalar(value)
            case "number", int(whole) if not isinstance(value, bool):
                # Beside money Arrow would make an int64 a decimal of more digits than there are.
                is_plain = abs(whole) <= _LARGEST_INT and not pa.types.is_decimal(kind)
                return pa.scalar(whole if is_plain else Decimal(whole))
            case "number", Decimal():
                return pa.scalar(value)
            case "time", str():
                return pa.scalar(self._time_of(value, literal.at), kind)
        wanted = {
            "text": "a 'text' in single quotes",
            "number": "a number",
            "truth": "TRUE or FALSE",
            "time": "a time such as '2026-11-21T10:00:00'",
        }.get(_class_of(kind) or "", "nothing: only IS NULL applies")
        return fail(self._text, literal.at, f"{name} ({kind}) is compared with {wanted}")

    def _text_of(self, value: str, at: int) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            fail(self._text, at, "a text that is not UTF-8")
        return value

    def _time_of(self, value: str, at: int) -> datetime:
        try:
            found = datetime.fromisoformat(value)
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            return fail(self._text, at, "a time as in ISO 8601 is expected, such as '2026-11-21T10:00:00'")


def _class_of(kind: pa.DataType) -> str | None:
    """Types of one class can be compared; None: of no class."""
    types = pa.types
    if types.is_string(kind):
        return "text"
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if types.is_boolean(kind):
        return "truth"
    return "time" if types.is_timestamp(kind) else None


def _joined(terms: list[pc.Expression], join: Callable[[pc.Expression, pc.Expression], pc.Expression]) -> pc.Expression:
    """A balanced tree: Arrow's recursion over thousands of terms stays shallow."""
    while len(terms) > 1:
        pairs = [join(left, right) for left, right in zip(terms[::2], terms[1::2], strict=False)]
        terms = [*pairs, terms[-1]] if len(terms) % 2 else pairs
    return terms[0]
