"""The quick flush after the transactional tests of this suite leaves what Django's would leave."""

import pytest
from django.contrib.auth.models import Permission, User
from django.test import TransactionTestCase

from audit.models import ExecutionLog, Task
from tests.support.factories import requested

pytestmark = pytest.mark.django_db(transaction=True)


class PytestDjangoTestCase(TransactionTestCase):
    """What pytest-django makes for each test, by its name."""


def _permissions() -> list[tuple[int, str]]:
    return list(Permission.objects.order_by("id").values_list("id", "codename"))


def test_what_was_written_is_gone_and_what_migrations_made_stays() -> None:
    PytestDjangoTestCase()._fixture_teardown()
    made = _permissions()
    requested().approve(actor="bob")
    User.objects.create_user("alice").user_permissions.add(Permission.objects.all()[0])
    PytestDjangoTestCase()._fixture_teardown()
    kinds = (Task, ExecutionLog, User, User.user_permissions.through)
    assert [kind.objects.count() for kind in kinds] == [0] * len(kinds)
    assert _permissions() == made != []


def test_permissions_that_a_test_changed_are_made_anew() -> None:
    PytestDjangoTestCase()._fixture_teardown()
    made = {name for _, name in _permissions()}
    Permission.objects.all()[0].delete()
    Permission.objects.filter(pk=Permission.objects.all()[0].pk).update(codename="other")
    PytestDjangoTestCase()._fixture_teardown()
    assert {name for _, name in _permissions()} == made
