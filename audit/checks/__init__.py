"""System checks: is this project and its database fit to keep an audit trail?

`manage.py check` looks at settings; `manage.py check --database default`, `migrate` and the test runners look into
the database as well.
"""

from audit.checks.database import MINIMUM_SERVER, check_database, check_deployment
from audit.checks.settings import check_settings

__all__ = ["MINIMUM_SERVER", "check_database", "check_deployment", "check_settings"]
