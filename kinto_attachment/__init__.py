"""Attach files to Kinto records."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

__version__ = version("kinto-attachment")

DOCUMENTATION = "https://github.com/Kinto/kinto-attachment/"


def includeme(config: Any) -> None:
    """Set the plugin up: ``kinto.includes = kinto_attachment``.

    - reads the ``attachment.*`` settings, and stops the server if one of them cannot be right;
    - registers the file storage, as pyramid_storage does: ``request.attachment`` is the storage;
    - adds the ``attachment`` endpoint to records, and to those of the default bucket, with
      resumable uploads below it;
    - follows what happens to records, so that files go with the last record that holds them;
    - takes over what earlier versions left, when ``kinto migrate`` runs;
    - announces itself: capability, public setting, heartbeat, metrics.
    """
    # Nothing here is of use to setup.py, or before Kinto knows its settings.
    from kinto.core.metrics import watch_execution_time
    from pyramid.events import ApplicationCreated
    from pyramid_storage.interfaces import IFileStorage

    from kinto_attachment import migrations
    from kinto_attachment.http.body import keep_freed_memory
    from kinto_attachment.listeners import changes as listeners
    from kinto_attachment.listeners import flush
    from kinto_attachment.settings import Settings
    from kinto_attachment.storage import open_storage
    from kinto_attachment.tus import views as tus
    from kinto_attachment.views import attachment as views
    from kinto_attachment.views import default_bucket
    from kinto_attachment.views import files as serving
    from kinto_attachment.views.heartbeat import heartbeat

    keep_freed_memory()
    registry = config.registry
    settings = Settings.from_kinto(config.get_settings())
    storage = open_storage(settings.storage, base_url=settings.base_url)
    registry.attachment_settings = settings
    registry.registerUtility(storage, IFileStorage)
    config.add_request_method(lambda request: storage, "attachment", reify=True)

    default_bucket.register(config)
    views.register(config)
    serving.register(config)
    listeners.register(config)
    flush.register(config)
    migrations.register(config, settings)

    config.add_api_capability(
        "attachments",
        description="Add file attachments to records",
        url=DOCUMENTATION,
        version=__version__,
        base_url=settings.extra_base_url,
        resumable=tus.capability(settings),
    )
    config.add_settings({"attachment.base_url": settings.base_url})
    registry.public_settings.add("attachment.base_url")
    registry.heartbeats["attachments"] = heartbeat

    def on_application_created(event: Any) -> None:
        watch_execution_time(event.app.registry.metrics, storage, prefix="backend")

    config.add_subscriber(on_application_created, ApplicationCreated)
