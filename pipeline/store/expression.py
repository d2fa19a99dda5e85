"""The expression language of `where`: SQL comparisons, AND, OR, NOT, IN, LIKE and IS NULL over columns.

Text becomes a tree of frozen values. Nothing is evaluated here, and never as code. `pipeline.store.filters` turns the
tree into a pyarrow expression.

    where      = conjunction { OR conjunction }
    conjunction= negation { AND negation }
    negation   = NOT negation | ( where ) | test
    test       = operand ( = | != | <> | < | <= | > | >= ) operand
               | operand IS [NOT] NULL | operand [NOT] IN ( literal {, literal} ) | operand [NOT] LIKE 'text'
    operand    = column { . field } | literal
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple, NoReturn

from pipeline.errors import InputError

MAX_CHARS = 100_000
MAX_DEPTH = 50
"""Parentheses and NOTs within each other: each takes some of Python's stack."""
_MOST_DIGITS = 18
"""Of a number, on each side of the point: a comparison with `cost_usd` then fits into 38 decimal digits."""

_KEYWORDS = frozenset({"AND", "OR", "NOT", "IN", "LIKE", "IS", "NULL", "TRUE", "FALSE"})
_COMPARISONS = {"=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_SWAPPED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<text>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")+")
    | (?P<word>[^\W\d]\w*)
    | (?P<sign><=|>=|<>|!=|==|[=<>(),.])
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Name:
    """A column, or a field of one: `labels.x` is ("labels", "x")."""

    path: tuple[str, ...]
    at: int

    def __str__(self) -> str:
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Literal:
    """A text, a number or a truth value."""

    value: str | int | Decimal | bool
    at: int


@dataclass(frozen=True, slots=True)
class Comparison:
    sign: str
    """One of = != < <= > >=."""
    left: Name
    right: Name | Literal


@dataclass(frozen=True, slots=True)
class IsIn:
    name: Name
    values: tuple[Literal, ...]


@dataclass(frozen=True, slots=True)
class Like:
    name: Name
    pattern: Literal


@dataclass(frozen=True, slots=True)
class IsNull:
    name: Name


@dataclass(frozen=True, slots=True)
class Not:
    term: "Term"


@dataclass(frozen=True, slots=True)
class And:
    terms: tuple["Term", ...]


@dataclass(frozen=True, slots=True)
class Or:
    terms: tuple["Term", ...]


Term = Comparison | IsIn | Like | IsNull | Not | And | Or


def parse(text: str) -> Term:
    """The tree of an expression. Raises InputError with the position of what cannot be read."""
    if len(text) > MAX_CHARS:
        raise InputError(f"where: {len(text):,} characters; an expression has at most {MAX_CHARS:,}")
    return _Parser(text).parse()


def columns_in(text: str) -> frozenset[str]:
    """The columns that an expression names. Raises what `parse` raises."""
    return frozenset(_columns(parse(text)))


def _columns(term: Term) -> Iterator[str]:
    match term:
        case And(terms) | Or(terms):
            for one in terms:
                yield from _columns(one)
        case Not(negated):
            yield from _columns(negated)
        case Comparison(_, left, right):
            yield left.path[0]
            if isinstance(right, Name):
                yield right.path[0]
        case _:
            yield term.name.path[0]


def fail(text: str, at: int, why: str) -> NoReturn:
    """Raise InputError for what stands at this position."""
    shown = text[at : at + 20]
    raise InputError(f"where: {why} at character {at + 1}" + (f" ({shown!r})" if shown else " (the end)"))


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def _tokens(text: str) -> Iterator[_Token]:
    at, end = 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            why = "a text that does not end" if text[at] in "'\"" else "an unexpected character"
            fail(text, at, why)
        start = found.start(found.lastgroup)
        value = found[found.lastgroup]
        is_keyword = found.lastgroup == "word" and value.upper() in _KEYWORDS
        yield _Token("keyword" if is_keyword else found.lastgroup, value.upper() if is_keyword else value, start)
        at = found.end()
    yield _Token("end", "", len(text))


class _Parser:
    """One expression, read from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._at = 0
        self._depth = 0

    def parse(self) -> Term:
        term = self._or()
        if self._next.kind != "end":
            self._fail("AND, OR or the end is expected")
        return term

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _fail(self, why: str) -> NoReturn:
        fail(self._text, self._next.at, why)

    def _take(self, *texts: str, kind: str = "keyword") -> _Token | None:
        """The next token, if it is one of these."""
        token = self._next
        if token.kind != kind or (texts and token.text not in texts):
            return None
        self._at += 1
        return token

    def _expect(self, text: str, kind: str = "keyword") -> None:
        if self._take(text, kind=kind) is None:
            self._fail(f"{text} is expected")

    def _or(self) -> Term:
        terms = [self._and()]
        while self._take("OR"):
            terms.append(self._and())
        return terms[0] if len(terms) == 1 else Or(tuple(terms))

    def _and(self) -> Term:
        terms = [self._negation()]
        while self._take("AND"):
            terms.append(self._negation())
        return terms[0] if len(terms) == 1 else And(tuple(terms))

    def _negation(self) -> Term:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"more than {MAX_DEPTH} levels of NOT and parentheses")
        try:
            if self._take("NOT"):
                return Not(self._negation())
            if self._take("(", kind="sign"):
                term = self._or()
                self._expect(")", "sign")
                return term
            return self._test()
        finally:
            self._depth -= 1

    def _test(self) -> Term:
        left = self._operand()
        if sign := self._take(*_COMPARISONS, kind="sign"):
            return self._comparison(left, _COMPARISONS[sign.text])
        if not isinstance(left, Name):
            self._fail("a comparison (= != < <= > >=) is expected")
        if self._take("IS"):
            is_negated = self._take("NOT") is not None
            self._expect("NULL")
            return _negated(IsNull(left), is_negated)
        is_negated = self._take("NOT") is not None
        if self._take("IN"):
            return _negated(IsIn(left, self._list()), is_negated)
        if self._take("LIKE"):
            return _negated(Like(left, self._literal()), is_negated)
        return self._fail("a comparison (= != < <= > >=), IN, LIKE or IS NULL is expected")

    def _comparison(self, left: Name | Literal, sign: str) -> Comparison:
        right = self._operand()
        if isinstance(left, Name):
            return Comparison(sign, left, right)
        if isinstance(right, Name):
            return Comparison(_SWAPPED[sign], right, left)
        return fail(self._text, left.at, "one side of a comparison has to be a column")

    def _list(self) -> tuple[Literal, ...]:
        self._expect("(", "sign")
        values = [self._literal()]
        while self._take(",", kind="sign"):
            values.append(self._literal())
        self._expect(")", "sign")
        return tuple(values)

    def _operand(self) -> Name | Literal:
        token = self._take(kind="word") or self._take(kind="quoted")
        if token is None:
            return self._literal()
        path = [_unquoted(token)]
        while self._take(".", kind="sign"):
            field = self._take(kind="word") or self._take(kind="quoted") or self._take(*_KEYWORDS)
            if field is None:
                self._fail("the name of a field is expected")
            path.append(_unquoted(field))
        return Name(tuple(path), token.at)

    def _literal(self) -> Literal:
        token = self._next
        if self._take(kind="text"):
            return Literal(token.text[1:-1].replace("''", "'"), token.at)
        if self._take(kind="number"):
            return Literal(self._number(token), token.at)
        if self._take("TRUE", "FALSE"):
            return Literal(token.text == "TRUE", token.at)
        if token.text == "NULL":
            self._fail("a comparison with NULL is never true, IS NULL is expected")
        return self._fail("a column, a 'text' in single quotes or a number is expected")

    def _number(self, token: _Token) -> int | Decimal:
        number = Decimal(token.text)
        exponent = number.as_tuple().exponent
        if number.adjusted() > _MOST_DIGITS or (isinstance(exponent, int) and -exponent > _MOST_DIGITS):
            fail(self._text, token.at, f"a number with more than {_MOST_DIGITS} digits before or after the point")
        return int(number) if number == number.to_integral_value() else number


def _negated(term: Term, is_negated: bool) -> Term:  # noqa: FBT001 - read right beside it
    return Not(term) if is_negated else term


def _unquoted(token: _Token) -> str:
    return token.text[1:-1].replace('""', '"') if token.kind == "quoted" else token.text
