"""The page of the pause queue."""
