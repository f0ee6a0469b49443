"""``factflow-sim``: the kit at work on an example, and its own determinism shown."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from factflow_infra_testing.wire.command import serve

if TYPE_CHECKING:
    from factflow_infra_testing.demo.service import InvoiceWorker
    from factflow_infra_testing.search.run import Scenario
    from factflow_infra_testing.search.search import SearchResult

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # a URI among them holds credentials
    help="Services on simulated brokers and storage: search for the faults that break them.",
)
console = Console(highlight=False)


@app.command()
def demo(
    examples: Annotated[int, typer.Option(min=2, help="Runs in each search.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="The same seed searches the same runs.")] = 0,
    uri: Annotated[
        str | None,
        typer.Option(help="Run the mended service for real: a broker such as amqp://guest:guest@localhost/."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="With --uri: where to file, such as file:///tmp/invoices. A new folder if not given."),
    ] = None,
) -> None:
    """Search an example service with a realistic bug, show what breaks it, then the mended service under the same search."""
    from factflow_infra_testing.demo.scenario import careful, hasty
    from factflow_infra_testing.demo.service import HastyInvoiceWorker, InvoiceWorker
    from factflow_infra_testing.report.text import failure_text

    if uri is not None:
        raise typer.Exit(_run_or_explain(uri, storage))
    if storage is not None:
        raise typer.BadParameter("--storage goes with --uri: without a real broker the storage is simulated too")
    found = _search(hasty, HastyInvoiceWorker, examples, seed)
    if found.finding is None:
        console.print(
            f"Nothing was found in {found.examples} runs, which is not what this demo is for: try another --seed."
        )
        raise typer.Exit(1)
    text = failure_text(found.finding, inputs={}, origin=f"Found in run {found.examples}.", replay="", artifacts="")
    console.rule("[red]HastyInvoiceWorker loses invoices[/red]", align="left")
    console.print(text, markup=False, soft_wrap=True)
    mended = _search(careful, InvoiceWorker, examples, seed)
    if mended.finding is not None:
        text = failure_text(mended.finding, inputs={}, origin="", replay="", artifacts="")
        console.print(text, markup=False, soft_wrap=True)
        raise typer.Exit(1)
    fired = ", ".join(f"{kind} {count}" for kind, count in sorted(mended.coverage.fired.items()))
    console.rule("[green]InvoiceWorker survives[/green]", align="left")
    console.print(
        f"The same service, acking after the work: {mended.examples} runs, none fails. Faults that it met:\n{fired}"
    )
    console.print("\nThe code: factflow_infra_testing/demo/service.py. For real: factflow-sim demo --uri amqp://...")


def _search(scenario: Scenario, worker: type[InvoiceWorker], examples: int, seed: int) -> SearchResult:
    from factflow_infra_testing.search.faults import Faults
    from factflow_infra_testing.search.search import search

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("runs"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(f"Searching {worker.__name__}", total=examples)
        return search(
            scenario,
            faults=Faults.all(),
            seed=seed,
            max_examples=examples,
            on_example=lambda done: progress.update(task, completed=done),
        )


def _run_or_explain(uri: str, storage: str | None) -> int:
    from factflow_infra.errors import InfraError

    try:
        return asyncio.run(_run_for_real(uri, storage))
    except InfraError as error:  # its text is for people, and holds no secret
        console.print(f"{type(error).__name__}: {error}", markup=False)
        return 1


async def _run_for_real(uri: str, storage: str | None) -> int:
    """File three invoices through a real broker. 0 where all arrived within 30 s."""
    from tempfile import mkdtemp

    from factflow_infra import create_queue_provider, create_storage_provider
    from factflow_infra.protocols import QueueMessage
    from factflow_infra_testing.demo.service import FILED, INVOICES, InvoiceWorker

    where = storage or f"file://{mkdtemp(prefix='invoices-')}"
    waiting, all_filed = {0, 1, 2}, asyncio.Event()

    async def collect(message: QueueMessage) -> None:
        number = message.json()["number"]
        console.print(f"filed invoice {number} as {message.json()['key']}")
        waiting.discard(number)
        if not waiting:
            all_filed.set()

    store = create_storage_provider(where)
    await store.exists("invoices/0.json")  # a missing folder or bucket is said now, not after 30 s of retries
    queue = create_queue_provider(uri)
    service = asyncio.create_task(InvoiceWorker(create_queue_provider(uri), store).run())
    done = asyncio.create_task(all_filed.wait())
    try:
        await queue.subscribe(FILED, collect)
        for number in sorted(waiting):
            await queue.publish(INVOICES, QueueMessage.from_json({"number": number}))
        await asyncio.wait((done, service), timeout=30, return_when=asyncio.FIRST_COMPLETED)
        if service.done():
            service.result()  # what it died of
        if waiting:
            console.print(f"invoices {sorted(waiting)} were not filed within 30 s")
            return 1
    finally:
        done.cancel()
        service.cancel()
        await asyncio.gather(service, return_exceptions=True)
        await queue.stop()
    console.print(f"Three invoices went through the broker into {where}.")
    return 0


@app.command("verify")
def verify_determinism(
    repeats: Annotated[int, typer.Option(min=1, help="Rounds in this process.")] = 5,
    processes: Annotated[int, typer.Option(min=0, help="Fresh processes, each with another PYTHONHASHSEED.")] = 20,
) -> None:
    """Show that the same seeds give the same runs, in one process and in fresh ones."""
    from factflow_infra_testing.verify import verify

    result = verify(repeats=repeats, processes=processes, tell=console.print)
    if result.different:
        console.print("[red]These runs differed:[/red]", *result.different, sep="\n  ")
        raise typer.Exit(1)
    console.print(
        f"{result.scenarios} scenarios, {result.runs} runs, each {result.repeats} times in one process and in {result.processes} fresh processes: "
        "the same every time."
    )


app.command("serve")(serve)


def main() -> None:
    """The entry point of ``factflow-sim``."""
    app()


if __name__ == "__main__":
    main()
