"""The comparison of WSGI servers, in small."""

from __future__ import annotations

from benchmarks import wsgi_servers


def test_every_answer_arrives_from_gunicorn_as_deploy_sets_it_up(capsys):
    assert wsgi_servers.main(["--mib", "8", "gunicorn with deploy/"]) == 0

    lines = capsys.readouterr().out.splitlines()
    rows = [line.split("  ") for line in lines[3:-1]]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert [row[:2] for row in cells] == [
        ["gunicorn with deploy/", "directly"],
        ["\\", "behind nginx"],
    ]
    for row in cells:
        assert row[5] == "200"
        assert all(cell.startswith("5/5, ") for cell in row[6:])
