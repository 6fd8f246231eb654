"""What every page of the browser shares: looking changes nothing, and reading is bounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import django
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, router
from django.db.models import Model
from django.forms import Media
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.views.generic import RedirectView

from audit import conf
from audit.admin.shared.ids import BadId, read_id
from audit.admin.shared.media import DECIDING, page_media
from audit.admin.shared.panels import NOT_MIGRATED, TOO_SLOW, noting_denied, reading, sqlstate
from audit.inspection.rights import missing_right

__all__ = ["NotThere", "ReadOnlyAdmin"]

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin

Built = dict[str, Any] | HttpResponseBase
"""What a template needs, or an answer without one."""


class NotThere(Exception):
    """Nothing in the database answers to this address."""


class ReadOnlyAdmin(_ModelAdmin):
    """A model's pages, drawn by this app instead of Django's changelist and forms, and closed to every change.

    What people may decide goes through one address of its own (`audit.admin.decide.view`).

    Subclasses give `list_context` and, where a row has a page of its own, `detail_context`; both run inside
    `reading` and return plain values, so that a template never asks the database.
    """

    actions = None
    key_type: type[UUID] | type[int] = int
    """What the ids of its rows are."""
    list_template = ""
    detail_template = ""

    def list_context(self, request: HttpRequest) -> dict[str, Any]:
        """Read what the list's template needs."""
        raise NotImplementedError

    def detail_context(self, request: HttpRequest, key: Any) -> dict[str, Any] | HttpResponse:
        """Read what the page of one row needs, or answer with another page.

        Args:
            request: who asks.
            key: the id of the row, of this class's `key_type`.

        Raises:
            NotThere: there is no such row.
        """
        raise NotImplementedError

    # Nobody, a superuser included

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm(f"{self.opts.app_label}.view_{self.opts.model_name}")

    def has_decide_permission(self, request: HttpRequest) -> bool:
        """Whether the person may decide about tasks: with `view_task` and `decide_task`, and only by POST."""
        user, app = request.user, self.opts.app_label
        return user.has_perm(f"{app}.view_task") and user.has_perm(f"{app}.decide_task")

    def sees(self, request: HttpRequest, model: type[Model]) -> bool:
        """Whether this site has pages of a model, and the person may see them.

        Where not, no page of another model leads there, or shows what only those pages show.
        """
        site = self.admin_site
        return site.is_registered(model) and site.get_model_admin(model).has_view_permission(request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        return {}

    def add_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        raise PermissionDenied

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        raise PermissionDenied

    def history_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        raise PermissionDenied

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        raise PermissionDenied

    # The pages there are

    def get_urls(self) -> list[URLPattern]:
        """The list and the page of a row; no add, delete or history URL exists."""
        name = f"{self.opts.app_label}_{self.opts.model_name}"
        view = self.admin_site.admin_view
        target = f"{self.admin_site.name}:{name}_change"
        return [
            path("", view(self.changelist_view), name=f"{name}_changelist"),
            *self.more_urls(),
            path("<str:object_id>/change/", view(self.change_view), name=f"{name}_change"),
            path(
                "<str:object_id>/",
                view(RedirectView.as_view(pattern_name=target, http_method_names=["get", "head"])),
            ),
        ]

    def more_urls(self) -> list[URLPattern]:
        """Further pages of a subclass."""
        return []

    def changelist_view(self, request: HttpRequest, extra_context: Mapping[str, Any] | None = None) -> HttpResponse:
        """Show the list."""
        return self.page(request, self.list_template, lambda: self.list_context(request), extra_context)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: Mapping[str, Any] | None = None,
    ) -> HttpResponse:
        """Show one row; nothing can be changed, whatever Django's name for this page says."""
        template = self.detail_template
        return self.row_page(request, object_id, lambda key: self.detail_context(request, key), template, extra_context)

    def row_page(
        self,
        request: HttpRequest,
        object_id: str,
        build: Callable[[Any], Built],
        template: str = "",
        extra: Mapping[str, Any] | None = None,
    ) -> HttpResponse:
        """Answer as `page` does about one row, by its id in the URL; what is not an id is the id of no row."""

        def built() -> Built:
            try:
                key = read_id(object_id, self.key_type)
            except BadId:
                raise NotThere from None
            return build(key)

        return self.page(request, template, built, extra)

    def page(
        self, request: HttpRequest, template: str, build: Callable[[], Built], extra: Mapping[str, Any] | None = None
    ) -> HttpResponse:
        """Answer a GET with what `build` reads, or with a page that says why it could not be read."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        request.current_app = self.admin_site.name  # read by {% url %}
        return self.answer(request, template, build, extra)

    def answer(
        self,
        request: HttpRequest,
        template: str,
        build: Callable[[], Built],
        extra: Mapping[str, Any] | None = None,
        using: str | None = None,
    ) -> HttpResponse:
        """Answer with what `build` reads from an alias (the pages' own when left out), or say why it could not."""
        alias = using or self.using
        try:
            with noting_denied() as denied, reading(alias):
                context = build()
        except NotThere:
            return self.problem(request, 404, "missing", alias)
        except DatabaseError as error:
            return self.unread(request, error, alias)
        if isinstance(context, HttpResponseBase):
            return cast(HttpResponse, context)  # or a streaming one, which Django takes wherever it takes this
        return TemplateResponse(
            request, template, {**self.frame(request), "denied": denied, **context, **(extra or {})}
        )

    def unread(self, request: HttpRequest, error: DatabaseError, using: str) -> HttpResponse:
        """Say why a database could not be read.

        Raises:
            DatabaseError: the error itself, where it is none that a page has words for.
        """
        state = sqlstate(error)
        if state in TOO_SLOW:
            return self.problem(request, 503, "slow", using)
        if right := missing_right(error, using):
            return self.problem(request, 503, "denied", using, reason=right)
        if state in NOT_MIGRATED:
            return self.problem(request, 503, "migrate", using)
        raise error

    def problem(
        self, request: HttpRequest, status: int, problem: str, using: str = "", *, reason: str = "", **options: Any
    ) -> HttpResponse:
        """Answer with a page that says what is wrong, and what to do."""
        titles = {
            "missing": _("Not found"),
            "slow": _("This took too long"),
            "migrate": _("The tables of the audit trail are missing"),
            "denied": _("The database role may not read this"),
            "post": _("Nothing to see here"),
            "unproven": _("There is no proof"),
        }
        context = {
            **self.frame(request),
            "title": titles[problem],
            "problem": problem,
            "reason": reason,
            "narrower": self.narrower(request) if self._is_list(request) else [],
            "using": using or self.using,
        }
        return TemplateResponse(request, "audit/admin/shared/problem.html", context, status=status, **options)

    def narrower(self, request: HttpRequest) -> list[tuple[str, str]]:
        """What to ask for instead of a list that was too slow, as words and links; none for a list without a range."""
        return []

    def _is_list(self, request: HttpRequest) -> bool:
        return request.path == self.url("changelist")

    def frame(self, request: HttpRequest) -> dict[str, Any]:
        """What every page needs around what it shows."""
        return {
            **self.admin_site.each_context(request),
            "title": str(self.opts.verbose_name_plural).capitalize(),
            "opts": self.opts,
            "media": self.media + DECIDING if self.has_decide_permission(request) else self.media,
            "list_url": self.url("changelist"),
            # Django 6.1 writes breadcrumbs as a list.
            "breadcrumbs_are_list": django.VERSION >= (6, 1),
        }

    @property
    def using(self) -> str:
        """The alias pages read from: `AUDIT["BROWSER_USING"]`, else the router's choice."""
        return conf.settings().BROWSER_USING or router.db_for_read(self.model)

    def url(self, page: str, *args: Any, model: str = "") -> str:
        """Reverse a page of this app on this very admin site."""
        name = f"admin:{self.opts.app_label}_{model or self.opts.model_name}_{page}"
        return reverse(name, args=args, current_app=self.admin_site.name)

    def urls_of(self, page: str, *, model: str = "") -> Callable[[UUID], str]:
        """Reverse a page for many rows: once."""
        place = str(UUID(int=0))
        before, after = self.url(page, place, model=model).split(place)
        return lambda key: f"{before}{key}{after}"

    @property
    def media(self) -> Media:
        """Our own stylesheets and script; none of Django's, which belong to its forms."""
        return page_media()
