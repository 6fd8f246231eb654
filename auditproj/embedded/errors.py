"""What can go wrong with the embedded server, each with a message fit for a terminal."""

__all__ = ["BinariesMissingError", "EmbeddedError"]


class EmbeddedError(Exception):
    """The embedded server cannot be prepared or started; the message says why and what to do."""


class BinariesMissingError(EmbeddedError):
    """There are no PostgreSQL programs to run."""
