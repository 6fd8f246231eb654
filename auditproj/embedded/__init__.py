"""A Django database backend that runs a PostgreSQL server of its own: ``ENGINE = "auditproj.embedded"``.

Reading order: ``base`` (the backend), ``server`` (one server: initialise, start, join, leave), ``places``
(which directories and which account), ``watcher`` (locks, and the process that stops a server nobody uses any
more). Nothing here starts anything when it is imported.
"""
