"""Tests of pausing by capacity and of resuming."""
