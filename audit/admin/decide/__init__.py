"""Deciding about tasks and pause entries, one or many."""
