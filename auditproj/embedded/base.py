"""The database backend: Django's own for PostgreSQL, on a server that is started for the first connection."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.postgresql import base, client
from django.db.utils import OperationalError

from auditproj.embedded.errors import BinariesMissingError, EmbeddedError
from auditproj.embedded.places import wheel_binaries
from auditproj.embedded.server import Server

__all__ = ["DatabaseWrapper", "server"]

_servers: dict[tuple[Path, str], Server] = {}


def server(settings: dict[str, Any]) -> Server:
    """The server of a ``DATABASES`` entry; one object for each in this process.

    Args:
        settings: the entry. Its key ``EMBEDDED`` holds ``home``, the directory of servers, and may hold
            ``name`` (of this one) and ``options`` (its settings).
    """
    embedded = settings.get("EMBEDDED") or {}
    if "home" not in embedded:
        raise ImproperlyConfigured('The backend auditproj.embedded needs "EMBEDDED": {"home": <directory>}.')
    key = (Path(embedded["home"]), embedded.get("name", "main"))
    # Threads may come here at once, and two objects would be two users.
    return _servers.setdefault(key, Server(home=key[0], name=key[1], options=embedded.get("options")))


class _DatabaseClient(client.DatabaseClient):
    """``manage.py dbshell`` with the psql that belongs to the server."""

    def runshell(self, parameters: Iterable[str]) -> None:
        """Start the server, then psql."""
        self.connection.embedded_start()  # type: ignore[attr-defined]
        self.executable_name = str(wheel_binaries().bin / "psql")
        super().runshell(parameters)


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection to the embedded server."""

    client_class = _DatabaseClient

    def embedded_start(self) -> None:
        """Have the server running, and this connection's settings point at it.

        Raises:
            OperationalError: it cannot be started.
            ImproperlyConfigured: it is not installed.
        """
        running = server(self.settings_dict)
        try:
            running.ensure()
        except BinariesMissingError as error:
            raise ImproperlyConfigured(str(error)) from error
        except EmbeddedError as error:
            raise OperationalError(str(error)) from error
        self._point_at(running)

    def _point_at(self, running: Server) -> None:
        for name, value in running.connection_parameters().items():
            self.settings_dict[name.upper()] = value

    def get_connection_params(self) -> dict[str, Any]:
        """Django's parameters, of a server that has been started once by this process."""
        running = server(self.settings_dict)
        if running.joined:
            self._point_at(running)
        else:
            self.embedded_start()
        return super().get_connection_params()

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connect; where that fails, look after the server and try once more."""
        try:
            return super().get_new_connection(conn_params)
        except self.Database.OperationalError:
            self.embedded_start()
            return super().get_new_connection(conn_params)
