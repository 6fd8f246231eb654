"""What is searched in a task's texts, written once for the indexes and for the questions that use them."""

import re
from typing import Any

from django.db.models import BooleanField, F, Func, Q, TextField, Value
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce, Left
from django.db.models.lookups import In

__all__ = ["ERROR_TYPE", "WORDS", "fails_with", "has_word"]

_LONGEST_TEXT = 4000
_LONGEST_LABEL = 200
_LONGEST_ID = 500
# What PostgreSQL's parser would take for paths, hosts, tags, signed numbers and compounds, so that `nginx` is not found
# in `/etc/nginx.conf`. Other signs part words anyhow.
_JOINS = "<>&@/:.-_+~=?#"


def _words_of(text: Any) -> Func:
    return Func(text, Value(_JOINS), Value(" " * len(_JOINS)), function="translate", output_field=TextField())


ERROR_TYPE = Left(KeyTextTransform("error_type", "outcome"), _LONGEST_LABEL)
"""The beginning of `outcome.error_type`: what an index can hold, however long the value."""

# Cut, since PostgreSQL refuses a vector of more than a megabyte, and with it would refuse the task.
WORDS = Func(
    _words_of(
        Func(
            F("action"),
            Left("summary", _LONGEST_TEXT),
            Left("correlation_id", _LONGEST_ID),
            Coalesce(Left(KeyTextTransform("output_summary", "outcome"), _LONGEST_TEXT), Value("")),
            # In this order, as the autodetector of migrations compares them.
            arg_joiner=" || ' ' || ",
            output_field=TextField(),
            template="(%(expressions)s)",
        )
    ),
    template="to_tsvector('simple', %(expressions)s)",
    output_field=TextField(),
)
"""The words of action, summary, correlation id and the outcome's `output_summary`, the long ones cut.

The configuration `simple` leaves words as they are, in lower case: names and codes are no language.
"""


def has_word(word: str) -> Func:
    """The condition that a word stands in the texts of `WORDS`: its beginning is enough, case does not matter.

    Several words in one, as in `connection reset` or `host-7`, are found in that order side by side. An end of one or
    two characters is taken as a whole word: as a beginning it would be that of a great many. Text without any letter
    or digit is found nowhere.
    """
    asked = Func(_words_of(Value(word)), template="phraseto_tsquery('simple', %(expressions)s)")
    if re.search(r"\w{3}\W*$", word):
        # To a query and back, since only its text takes the mark for "or longer" at the last word.
        asked = Func(asked, template="(nullif(%(expressions)s::text, '') || ':*')::tsquery")
    return Func(WORDS, asked, template="(%(expressions)s)", arg_joiner=" @@ ", output_field=BooleanField())


def fails_with(error_types: tuple[str, ...]) -> Q:
    """The condition that `outcome.error_type` is one of these, by the index on its beginning."""
    found = Q(In(ERROR_TYPE, [each[:_LONGEST_LABEL] for each in error_types]))
    if any(len(each) >= _LONGEST_LABEL for each in error_types):
        found &= Q(In(KeyTextTransform("error_type", "outcome"), error_types))
    return found
