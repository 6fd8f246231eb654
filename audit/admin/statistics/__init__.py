"""The page of the figures: failure rates and durations over time, and by what."""
