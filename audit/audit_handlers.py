"""What workers run for this app itself: the tasks of Django's Tasks framework, where the project keeps them here."""

from audit.contrib.django_tasks.configured import configured

if configured():
    from audit.contrib.django_tasks.running import declare

    declare()
