"""Runs one statement, again where it was refused for the moment, and makes model instances of its rows."""
