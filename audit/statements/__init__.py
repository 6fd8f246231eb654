"""Runs one statement and makes model instances of its rows."""
