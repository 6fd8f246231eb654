"""A web server for tests, with a thread a request: `python -m tests.support.site DATABASE [NAME=N …]`.

It prints its port. `NAME=N` sets a number of `audit.admin.shared.export_limits`, and of `audit.admin.shared.export`.
"""

import os
import sys


def main(database: str, *numbers: str) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    import django
    from django.conf import settings

    settings.DATABASES["default"]["NAME"] = database
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    django.setup()
    from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler, get_internal_wsgi_application

    from audit.admin.shared import export, export_limits

    for each in numbers:
        name, _, number = each.partition("=")
        for module in (export_limits, export):
            if hasattr(module, name):
                setattr(module, name, int(number))
    server = ThreadedWSGIServer(("127.0.0.1", 0), WSGIRequestHandler)
    server.daemon_threads = True
    server.set_app(get_internal_wsgi_application())
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
