"""Sources of tasks beside this app itself: other formats, and Django's Tasks framework."""
