"""Attach files to Kinto records."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

__version__ = version("kinto-attachment")

DOCUMENTATION = "https://github.com/Kinto/kinto-attachment/"


def includeme(config: Any) -> None:
    """Set the plugin up: ``kinto.includes = kinto_attachment``.

    - Read the settings ``attachment.*``, and stop the server if one of them cannot be right.
    - Register the file storage as pyramid_storage does: ``request.attachment``.
    - Add the ``attachment`` endpoint to records, those of the default bucket included, with
      resumable uploads below it, and serve files if ``serve_files`` is true.
    - Follow the changes of records, so that files go with the last record that holds them.
    - Migrate the links of earlier versions when ``kinto migrate`` runs.
    - Announce the plugin: capability, public setting, heartbeat, metrics.
    """
    # Kinto must have read its settings before its services are imported.
    from kinto.core.metrics import IMetricsService
    from pyramid.events import ApplicationCreated
    from pyramid.exceptions import ConfigurationError
    from pyramid_storage.interfaces import IFileStorage

    from kinto_attachment import listeners, migrations, views
    from kinto_attachment.attachments.site import SiteMark
    from kinto_attachment.errors import reasons
    from kinto_attachment.http.body import keep_freed_memory, share_freed_memory
    from kinto_attachment.metrics import REFUSALS, STORAGE_SECONDS, Metrics
    from kinto_attachment.settings import Settings
    from kinto_attachment.storage.files import open_files
    from kinto_attachment.storage.names import PRIVATE_PREFIX
    from kinto_attachment.storage.observed import OPERATIONS, observe
    from kinto_attachment.tus.views import capability
    from kinto_attachment.views.heartbeat import heartbeat

    keep_freed_memory()
    share_freed_memory()
    registry = config.registry
    settings = Settings.from_kinto(config.get_settings())
    try:
        files = open_files(settings.storage, settings.private_storage, settings.base_url)
    except ImportError as error:
        raise ConfigurationError(
            "kinto.attachment.gcloud.bucket_name needs Google's library, which is not installed: "
            f"pip install kinto-attachment[gcloud] ({error})."
        ) from error
    registry.attachment_files = files
    registry.attachment_settings = settings
    registry.attachment_metrics = metrics = Metrics()
    registry.attachment_site = SiteMark(registry, files)
    # For other plugins, to which every file is public.
    registry.registerUtility(files.public, IFileStorage)
    config.add_request_method(lambda request: files.public, "attachment", reify=True)

    views.register(config)
    listeners.register(config)
    migrations.register(config, settings)

    quota = settings.quotas.get("")
    config.add_api_capability(
        "attachments",
        description="Add file attachments to records",
        url=DOCUMENTATION,
        version=__version__,
        base_url=settings.extra_base_url,
        **({} if files.private is None else {"private": PRIVATE_PREFIX}),
        **({} if quota is None else {"quota": quota.limits}),
        resumable=capability(settings),
    )
    config.add_settings({"attachment.base_url": settings.base_url})
    registry.public_settings.add("attachment.base_url")
    registry.heartbeats["attachments"] = heartbeat

    def connect_metrics(event: Any) -> None:
        metrics.connect(registry.queryUtility(IMetricsService))
        if metrics.is_enabled:
            metrics.start(REFUSALS, reasons())
            metrics.start(STORAGE_SECONDS, OPERATIONS)
            observe(files, metrics)

    config.add_subscriber(connect_metrics, ApplicationCreated)
