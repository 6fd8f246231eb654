"""Routes of the example project: the admin, and its static files."""

from django.conf import settings
from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.http import HttpResponse
from django.urls import path, re_path
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    # Browsers ask for an icon: none, rather than a 404 in the output of runserver.
    path("favicon.ico", lambda request: HttpResponse(status=204)),
]

if settings.SERVE_STATIC:
    urlpatterns.append(re_path(r"^static/(?P<path>.+)$", serve, {"insecure": True}))
