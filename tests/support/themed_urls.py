"""Routes of an admin site of its own under a theme, whose name stands in the setting `THEME`."""

from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.staticfiles.views import serve
from django.urls import include, path, re_path

from audit.admin import register


def _site() -> AdminSite:
    if settings.THEME == "unfold":
        from unfold.sites import UnfoldAdminSite

        return UnfoldAdminSite(name="admin")
    return AdminSite(name="admin")


site = _site()
register(site)
urlpatterns = [
    *([path("grappelli/", include("grappelli.urls"))] if settings.THEME == "grappelli" else []),
    path("admin/", site.urls),
    re_path("^static/(?P<path>.*)$", serve, {"insecure": True}),
]
