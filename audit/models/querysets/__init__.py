"""The managers and querysets of the tables."""
