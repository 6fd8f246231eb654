"""An app with task functions of Django's Tasks framework; its workers have `tests.support.tasking.settings`."""
