"""What can go wrong with the embedded server, each with a message fit for a terminal."""

__all__ = ["WAY_OUT", "BinariesMissingError", "EmbeddedError"]

WAY_OUT = "set DATABASE_URL to a PostgreSQL server of your own."


class EmbeddedError(Exception):
    """The embedded server cannot be prepared or started; the message says why and what to do."""


class BinariesMissingError(EmbeddedError):
    """There are no PostgreSQL programs to run."""
