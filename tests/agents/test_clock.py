"""An agent whose clock is hours off is as there as any: only the database's clock counts."""

import os
import subprocess
import sys
from typing import Any

import pytest
from django.db import connection

from audit.models import Agent, ResourceMetric
from audit.status import AgentState

_OFF = """
import datetime, time
real = time.time
time.time = lambda: real() - 6 * 3600
class Off(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) - datetime.timedelta(hours=6)
datetime.datetime = Off
import django
from django.conf import settings
settings.DATABASES["default"]["NAME"] = {name!r}
django.setup()
from audit.agents.presence import Presence
from audit.agents.readings import read
presence = Presence("w1")
presence.register()
assert not presence.beat(read()).draining
"""


@pytest.mark.django_db(transaction=True)
def test_a_clock_that_is_hours_off(settings: Any) -> None:
    # Below the six hours, and longer than a slow machine takes for the end of a process.
    settings.AUDIT = {"AGENT_STALE_SECONDS": 3600, "AGENT_OFFLINE_SECONDS": 7200}
    code = _OFF.format(name=connection.settings_dict["NAME"])
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        timeout=120,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
    )
    assert Agent.objects.with_state().get().state == AgentState.AVAILABLE
    with connection.cursor() as cursor:
        cursor.execute("SELECT max(abs(extract(epoch FROM statement_timestamp() - at))) FROM audit_resource_metric")
        [apart] = cursor.fetchone()
    assert apart < 600
    assert ResourceMetric.objects.get().memory
