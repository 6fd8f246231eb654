"""Sends the audit tables to a database of their own."""


class TrailRouter:
    """`audit` lives in `trail`, everything else in `default`."""

    def db_for_read(self, model, **hints):
        return "trail" if model._meta.app_label == "audit" else None

    db_for_write = db_for_read

    def allow_migrate(self, db, app_label, **hints):
        return (app_label == "audit") == (db == "trail")
