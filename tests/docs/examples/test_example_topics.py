import asyncio

from factflow_infra.protocols import ErrorHandling, QueueMessage
from factflow_infra_testing import Process, Simulation, simulate

NEWS = [QueueMessage.from_json({"n": n}, message_id=f"news-{n}") for n in range(3)]


async def printer(process: Process) -> None:
    """Passes on what a topic says; gives up after a few refusals."""
    queue = process.queue("rabbitmq")

    async def handle(message: QueueMessage) -> None:
        await queue.publish("printed", message)

    few = ErrorHandling(max_retries=1, dead_letter_queue="unprinted")
    await queue.subscribe("/topic/news", handle, subscription="printer", error_handling=few)
    await asyncio.Event().wait()


@simulate(max_examples=100)
async def test_all_news_are_printed_or_known_not_to_be(sim: Simulation) -> None:
    queue, broker = sim.queue("rabbitmq"), sim.broker("rabbitmq")

    async def never(_: QueueMessage) -> None:
        raise AssertionError("nothing was published yet")

    await (await queue.subscribe("/topic/news", never, subscription="printer")).close()  # durable: it stays
    sim.start(printer, name="printer")
    await queue.publish_batch("/topic/news", NEWS)
    await sim.drain()
    done = {message.message_id for message in (*broker.messages("printed"), *broker.messages("unprinted"))}
    assert done == {message.message_id for message in NEWS}
    sim.check.sometimes(broker.depth("unprinted") > 0, "news that could not be printed")
