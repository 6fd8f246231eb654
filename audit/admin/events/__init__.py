"""The page of the events that paused work waits for."""
