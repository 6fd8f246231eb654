"""What the templates of the browser need beside plain values."""

from typing import Any

from django import template
from django.forms import Media
from django.utils.safestring import SafeString, mark_safe

from audit.admin.shared.media import page_media
from audit.admin.shared.seal_badge import Seal, badge

__all__ = ["register"]

register = template.Library()


@register.simple_tag(takes_context=True)
def audit_media(context: Any, media: Media, kind: str) -> SafeString:
    """Write the tags of a page's stylesheets or scripts, with the nonce where Django's CSP asks for one.

    Args:
        context: the template's.
        media: what to write; what every page has, where a page brings none.
        kind: `css` or `js`.
    """
    part = (media or page_media())[kind]
    try:
        from django.utils.csp import nonce_attr
    except ImportError:  # before Django 6.1 the admin itself has no nonce
        return mark_safe(str(part))  # noqa: S308 - tags made by Django
    return mark_safe(str(nonce_attr(context, part)))  # noqa: S308 - as above


@register.simple_tag
def audit_seal(seal: Seal) -> SafeString:
    """Write the badge of a row's seal."""
    return badge(seal)


@register.inclusion_tag("audit/admin/overview/page.html", takes_context=True)
def audit_overview(context: Any) -> dict[str, Any]:
    """Write the overview of the admin site whose index of this app is shown."""
    from audit.admin.overview.page import overview

    request = context["request"]
    # Django's own mark of the site that a view belongs to.
    return overview(request, request.resolver_match.func.admin_site)
