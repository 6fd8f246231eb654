from django.http import HttpRequest, HttpResponse
from django.urls import path

from shop.models import Order


def ship(request: HttpRequest, name: str) -> HttpResponse:
    return HttpResponse(str(Order.objects.create(name=name).ship()))


urlpatterns = [path("ship/<name>", ship)]
