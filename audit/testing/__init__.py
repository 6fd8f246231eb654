"""What a project with this app needs in its tests.

TRUNCATE of an audit table is refused, and a flush is a TRUNCATE: `TransactionTestCase`, `LiveServerTestCase` and
pytest-django's `transactional_db` flush after every test. Under pytest the plugin of this distribution sees to it.
For unittest runners there is `audit.testing.runner.AuditDiscoverRunner`, or `GuardedFlushMixin` for single classes.
"""

from audit.testing.flush import GuardedFlushMixin, flushable
from audit.testing.refusal import Refusal, refused

__all__ = ["GuardedFlushMixin", "Refusal", "flushable", "refused"]
