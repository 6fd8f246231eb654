"""Tests of the registry, its readings and its commands."""
