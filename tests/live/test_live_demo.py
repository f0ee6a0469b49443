"""The example service of the demo, unchanged, on a real broker and a real folder."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from factflow_infra_testing import cli

pytestmark = pytest.mark.live


def test_the_demo_runs_for_real(rabbitmq_server, tmp_path):
    arguments = ["demo", "--uri", rabbitmq_server.uri, "--storage", f"file://{tmp_path}"]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "invoices").iterdir() if not path.name.endswith(".meta.json")) == [
        "0.json",
        "1.json",
        "2.json",
    ]


def test_a_folder_that_is_not_there_is_said_at_once(rabbitmq_server, tmp_path):
    arguments = ["demo", "--uri", rabbitmq_server.uri, "--storage", f"file://{tmp_path}/missing"]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 1
    assert "BucketNotFoundError" in result.output
    assert "guest:guest" not in result.output
