"""The stylesheets and scripts of the pages."""

from django.forms import Media
from django.forms.widgets import Script

__all__ = ["DECIDING", "page_media"]

_STYLES = ["audit/colours.css", "audit/admin.css", "audit/integrity.css", "audit/running.css"]

# For the pages of people who may decide, drain and emit; after all others, whose rules it narrows.
DECIDING = Media(css={"all": [*_STYLES, "audit/decide.css"]}, js=[Script("audit/decide.js", defer=True)])  # type: ignore[list-item]  # django-stubs know only str


def page_media() -> Media:
    """What every page has."""
    return Media(css={"all": _STYLES}, js=[Script("audit/admin.js", defer=True)])  # type: ignore[list-item]  # as above
