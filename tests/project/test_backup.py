"""A backup as docs/operations.rst has it: uploads and deletions go on between its two steps."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import shutil

import pytest
import transaction

from kinto_attachment.commands import main
from tests.conftest import kinto_settings_with
from tests.project.test_docs import BACKUP, commands
from tests.support.documents import run
from tests.support.inventory import Folder
from tests.support.records import Record
from tests.support.servers.kinto import ini


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the commands are typed."""
    for name in ("backup", "config", "older-backup"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def site(new_database):
    """The database of the site."""
    return new_database()


@pytest.fixture
def make_record(site, folder, make_app, kinto_settings):
    """``make_record(id, content)``: a record with a file; those of the collection ``drafts`` have
    private ones."""
    stored = Folder(folder / "kinto" / "files")
    attachment = {**stored.settings, **stored.private_settings}
    attachment |= {"resources.b.drafts.private": "true", "base_url": ""}
    settings = kinto_settings_with(kinto_settings, attachment, site.settings)
    (folder / "config" / "kinto.ini").write_text(ini(settings, 8888))
    app = make_app(attachment, **site.settings)
    app.put_json("/v1/buckets/b", {})
    for name in ("c", "drafts"):
        app.put_json(f"/v1/buckets/b/collections/{name}", {})

    def make(record_id, content, collection="c"):
        record = Record(app, stored, f"/buckets/b/collections/{collection}/records/{record_id}")
        record.attach(content)
        return record

    return make


@pytest.fixture
def type_(site, folder, postgresql):
    """``type_(line)`` types a command of the document; returns the status, and what it printed."""
    path = f"{postgresql.programs}{os.pathsep}{os.environ['PATH']}"

    def type_(line):
        line = line.replace("/private", "/files-private").replace("/var/lib/", f"{folder}/")
        words, _, output = line.partition(" > ")
        if not line.startswith("kinto-attachment"):
            return 0, run(line, folder, DATABASE_URL=site.url, PATH=path)
        # A process of its own would take longer to start than all else takes.
        transaction.abort()
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            status = main(shlex.split(words)[1:])
        if output:
            (folder / output).write_text(printed.getvalue())
        return status, printed.getvalue()

    return type_


@pytest.mark.parametrize("backend", ["memory"], indirect=True)
def test_all_comes_back_but_for_what_was_deleted_between_dump_and_copy(make_record, type_, folder):
    dump, copy, restore_dump, restore_copy, check, *repair = commands("operations.rst", BACKUP)
    restore, missing, told, detach = repair
    kept = make_record("kept", b"kept")
    private = make_record("private", b"private", "drafts")
    found, lost = make_record("found", b"found"), make_record("lost", b"lost")
    before = {record: record.data for record in (kept, private, found, lost)}
    (folder / "older-backup" / "found.bin").write_bytes(b"found")

    type_(dump)
    # What clients do between the two steps, and after them.
    late = make_record("late", b"late").data["attachment"]["location"]
    found.detach()
    lost.app.delete(lost.path)
    type_(copy)
    kept.attach(b"replaced")
    private.detach()
    shutil.rmtree(folder / "kinto")
    (folder / "kinto").mkdir()
    type_(restore_dump)
    type_(restore_copy)

    assert {record: record.data for record in before} == before
    status, printed = type_(check)
    findings = printed.partition("\n\n")[0].splitlines()
    assert status == 1
    assert len(findings) == 3
    for record in (found, lost):
        assert any(line.startswith(f"{record.uri}: ") for line in findings)
    assert f"{late} is referenced by no record" in findings

    assert type_(restore)[0] == 0
    assert type_(missing)[0] == 1
    assert type_(told)[0] == 0
    assert lost.data == before[lost]
    assert type_(detach)[0] == 0

    assert type_(missing) == (0, "")
    contents = [record.content for record in (kept, private, found)]
    assert contents == [b"kept", b"private", b"found"]
    assert lost.data["attachment"] is None
    (kept.folder / late).unlink()
    kept.inventory.check()
