"""``factflow-sim``: what it prints, what it answers to wrong use, and that it never shows a secret."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from factflow_infra.protocols import QueueMessage
from factflow_infra_testing import cli, verify
from factflow_infra_testing.broker.provider import SimulatedQueueProvider
from factflow_infra_testing.broker.server import SimulatedBroker
from factflow_infra_testing.search.decisions import SwarmDecisions
from factflow_infra_testing.simulation.runner import run as simulated
from factflow_infra_testing.wire.command import announce

ANSI = re.compile(r"\x1b\[")
SECRET = "s3cr3t-passw0rd"


@pytest.fixture
def run(monkeypatch):
    """Run the command as in a terminal of 80 columns without colour."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    for name in ("FORCE_COLOR", "CI", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments):
        return CliRunner().invoke(cli.app, list(arguments))

    return call


def lines(result):
    return result.output.splitlines()


def test_the_demo_finds_the_defect_and_shows_the_mended_service(run):
    result = run("demo", "--examples", "30", "--seed", "0")
    assert result.exit_code == 0, result.output
    text = result.output
    for expected in (
        "Searching HastyInvoiceWorker",
        "HastyInvoiceWorker loses invoices",
        "Violated: AssertionError",
        ", and never ",  # filed or announced, whichever the first finding is
        "@simulate(plan=[Fault('",
        "Searching InvoiceWorker",
        "InvoiceWorker survives",
        "30 runs, none fails",
    ):
        assert expected in text
    assert not ANSI.search(text)
    assert "Traceback" not in text
    ours = [line for line in lines(result) if "─" in line or line.startswith("The same service")]
    assert max(map(len, ours)) <= 80


def test_the_same_seed_shows_the_same(run):
    def shown():
        return [
            line for line in lines(run("demo", "--examples", "20", "--seed", "3")) if not line.startswith("Searching")
        ]

    assert shown() == shown()


def test_a_seed_that_finds_nothing_says_so(run):
    results = (run("demo", "--examples", "2", "--seed", str(seed)) for seed in range(20))
    result = next(result for result in results if result.exit_code == 1)
    assert "Nothing was found in 2 runs" in result.output
    assert "--seed" in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("demo", "--seed", "many"), ("Invalid value for '--seed'", "integer")),
        (("demo", "--seed", "-1"), ("Invalid value for '--seed'", "0")),
        (("demo", "--examples", "1"), ("Invalid value for '--examples'", "2")),
        (("demo", "--storage", "file:///tmp/x"), ("--storage goes with --uri",)),
        (("demo", "--sead", "1"), ("--sead",)),
        (("verify", "--repeats", "0"), ("Invalid value for '--repeats'", "1")),
        (("verify", "--processes", "-1"), ("Invalid value for '--processes'", "0")),
        (("search",), ("search",)),
    ],
    ids=" ".join,
)
def test_wrong_use_is_answered_in_words(run, arguments, says):
    result = run(*arguments)
    assert result.exit_code == 2
    text = " ".join(result.output.replace("│", " ").split())
    for expected in says:
        assert expected in text
    assert "Traceback" not in text
    assert max(map(len, lines(result))) <= 80


@pytest.mark.parametrize(
    ("uri", "storage", "says"),
    [
        (f"foo://user:{SECRET}@host/", "", "SettingsError: no queue provider for the scheme 'foo'"),
        (f"amqp://user:{SECRET}@host:99999/", "", "SettingsError: uri has a port"),
        (f"amqp://user:{SECRET}@host/", f"s3://key:{SECRET}@bucket", "SettingsError: the storage URI"),
        (f"amqp://user:{SECRET}@host/", f"ftp://key:{SECRET}@bucket", "SettingsError: the storage scheme 'ftp'"),
    ],
)
def test_what_is_wrong_with_a_uri_is_said_without_its_secret(run, uri, storage, says):
    result = run("demo", "--uri", uri, *(("--storage", storage) if storage else ()))
    assert result.exit_code == 1
    assert says in " ".join(result.output.split())
    assert SECRET not in result.output
    assert "Traceback" not in result.output
    assert isinstance(result.exception, SystemExit)


def test_an_unexpected_error_would_not_show_its_variables():
    assert cli.app.pretty_exceptions_show_locals is False


def test_without_a_command_it_shows_help(run):
    result = run()
    assert "demo" in result.output
    assert "verify" in result.output
    assert max(map(len, lines(result))) <= 80


def test_verify_says_what_it_compared(run, monkeypatch):
    monkeypatch.setattr(verify, "SEEDS", (0,))
    monkeypatch.setattr(verify.digests, "__defaults__", ((0,),))
    result = run("verify", "--repeats", "2", "--processes", "0")
    assert result.exit_code == 0, result.output
    assert "round 2 in this process: 12 of 12 runs the same" in result.output
    assert "12 scenarios, 12 runs, each 2 times in one process and in 0 fresh processes" in " ".join(
        result.output.split()
    )


def test_verify_fails_where_runs_differ(run, monkeypatch):
    rounds = iter([{"one": "a", "two": "b"}, {"one": "a", "two": "c"}])
    monkeypatch.setattr(verify, "digests", lambda: next(rounds))
    result = run("verify", "--repeats", "2", "--processes", "0")
    assert result.exit_code == 1
    assert "round 2 in this process: 1 of 2 runs the same" in result.output
    assert lines(result)[-2:] == ["These runs differed:", "  two"]


def test_the_module_is_the_command_too():
    ended = subprocess.run(
        [sys.executable, "-m", cli.__name__, "demo", "--no-such-option"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "such-option" in ended.stderr


def test_serve_refuses_a_fault_that_cannot_strike(run):
    for profile, kind in (("rabbitmq", "kil"), ("rabbitmq", "messages-stranded"), ("artemis", "s3-slow")):
        result = run("serve", "--profile", profile, "--fault", kind)
        assert result.exit_code == 2
        assert f"'{kind}' cannot strike here" in result.output
        assert "ack-lost" in result.output


def test_serve_says_which_fault_struck():
    told = []

    async def scenario():
        decisions = SwarmDecisions(0, {"confirm-delayed": 1.0})
        broker = SimulatedBroker("rabbitmq", decisions)
        announce(broker, decisions, told.append)
        provider = SimulatedQueueProvider(broker, client="shop", exposed=True)
        await provider.publish("orders", QueueMessage(b"", message_id="m-1"))
        await provider.stop()

    simulated(scenario).result()
    (line,) = told
    assert re.fullmatch(r" +0\.\d{3} s  confirm-delayed \((50 ms|1 s|45 s)\) on orders m-1 \(shop\)", line)
