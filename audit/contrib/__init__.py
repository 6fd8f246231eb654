"""Sources of tasks beside this app itself."""
