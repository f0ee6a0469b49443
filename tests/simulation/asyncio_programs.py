"""Small asyncio programs whose outcome asyncio defines: they must come out the same on the stock loop and on ours."""

import asyncio
import contextvars
import functools
import inspect
import sys

TICK = 0.004


async def ready_order():
    log = []
    loop = asyncio.get_running_loop()
    for n in range(5):
        loop.call_soon(log.append, n)
    loop.call_later(0, log.append, "timer")
    loop.call_soon(lambda: loop.call_soon(log.append, "nested"))
    cancelled = loop.call_soon(log.append, "never")
    cancelled.cancel()
    await asyncio.sleep(TICK)
    return log


async def timers_in_order():
    log = []
    loop = asyncio.get_running_loop()
    for n in (3, 1, 2):
        loop.call_later(n * TICK, log.append, n)
    gone = loop.call_later(TICK, log.append, "never")
    gone.cancel()
    await asyncio.sleep(5 * TICK)
    return log, gone.cancelled()


async def gather_with_errors():
    async def fail(n):
        await asyncio.sleep(0)
        raise ValueError(n)

    async def give(n):
        await asyncio.sleep(TICK)
        return n

    results = await asyncio.gather(give(1), fail(2), give(3), return_exceptions=True)
    try:
        await asyncio.gather(give(4), fail(5))
    except ValueError as error:
        results.append(error)
    return [repr(result) for result in results]


async def cancelled_gather():
    log = []

    async def work(n):
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            log.append(n)
            raise

    gathered = asyncio.gather(work(1), work(2))
    await asyncio.sleep(0)
    gathered.cancel("stop")
    try:
        await gathered
    except asyncio.CancelledError as error:
        log.append(error.args)
    return log


async def task_group():
    log = []

    async def work(n, failing=False):
        try:
            await asyncio.sleep(TICK * n)
            if failing:
                raise RuntimeError(n)
            log.append(("done", n))
        except asyncio.CancelledError:
            log.append(("cancelled", n))
            raise

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(work(1))
            group.create_task(work(2, failing=True))
            group.create_task(work(50))
    except* RuntimeError as errors:
        log.append([repr(error) for error in errors.exceptions])
    return log


async def timeouts():
    log = []
    try:
        async with asyncio.timeout(TICK):
            await asyncio.sleep(10)
    except TimeoutError:
        log.append("timeout")
    try:
        await asyncio.wait_for(asyncio.Event().wait(), TICK)
    except TimeoutError:
        log.append("wait_for")
    log.append(await asyncio.wait_for(asyncio.sleep(0, "value"), 10))
    async with asyncio.timeout(None) as scope:
        scope.reschedule(asyncio.get_running_loop().time() + 10)
        await asyncio.sleep(0)
    log.append(scope.expired())
    return log


async def shielded():
    log = []

    async def work():
        await asyncio.sleep(TICK)
        log.append("finished")

    task = asyncio.ensure_future(work())
    waiter = asyncio.ensure_future(asyncio.shield(task))
    await asyncio.sleep(0)
    waiter.cancel()
    try:
        await waiter
    except asyncio.CancelledError:
        log.append("cancelled")
    await task
    return log, task.cancelled()


async def uncancel():
    async def stubborn():
        for _ in range(2):
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError as error:
                log.append((error.args, asyncio.current_task().cancelling()))
                asyncio.current_task().uncancel()
        return "survived"

    log = []
    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    for n in range(2):
        task.cancel(n)
        await asyncio.sleep(0)
    return await task, log


async def bounded_queue():
    queue = asyncio.Queue(2)
    log = []

    async def produce():
        for n in range(6):
            await queue.put(n)
            log.append(("put", n))
        await queue.put(None)

    async def consume():
        while (n := await queue.get()) is not None:
            log.append(("got", n))
            await asyncio.sleep(0)

    await asyncio.gather(produce(), consume())
    return log


async def locks_are_fair():
    lock, log = asyncio.Lock(), []

    async def work(n):
        async with lock:
            log.append(n)
            await asyncio.sleep(0)
            log.append(n)

    await asyncio.gather(*[work(n) for n in range(4)])
    return log


async def conditions_and_semaphores():
    condition, semaphore, log = asyncio.Condition(), asyncio.Semaphore(2), []

    async def wait(n):
        async with condition:
            await condition.wait()
            log.append(("woken", n))
        async with semaphore:
            log.append(("in", n))
            await asyncio.sleep(TICK)

    tasks = [asyncio.create_task(wait(n)) for n in range(4)]
    await asyncio.sleep(0)
    async with condition:
        condition.notify(1)
    await asyncio.sleep(0)
    async with condition:
        condition.notify_all()
    await asyncio.gather(*tasks)
    return log


async def wait_and_as_completed():
    async def after(n):
        await asyncio.sleep(n * TICK)
        return n

    tasks = [asyncio.create_task(after(n)) for n in (3, 1, 6)]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    log = [sorted(task.result() for task in done), len(pending)]
    done, pending = await asyncio.wait(tasks, timeout=3.5 * TICK)
    log.append((sorted(task.result() for task in done), len(pending)))
    log += [await one for one in asyncio.as_completed([after(2), after(0), after(1)])]
    await asyncio.wait(tasks)
    return log


async def generators_close():
    log = []

    async def count(name):
        try:
            for n in range(10):
                await asyncio.sleep(0)
                yield n
        finally:
            await asyncio.sleep(0)
            log.append(f"closed {name}")

    async for n in count("dropped"):
        if n == 2:
            break
    await asyncio.sleep(TICK)
    generator = count("kept")
    log.append(await anext(generator))
    await generator.aclose()
    log.append([n async for n in count("whole") if n % 3 == 0])
    return log


async def context_variables():
    variable = contextvars.ContextVar("variable", default=0)
    log = []

    async def work(n):
        variable.set(n)
        await asyncio.sleep(0)
        log.append(variable.get())

    variable.set(7)
    await asyncio.gather(work(1), work(2))
    asyncio.get_running_loop().call_soon(lambda: log.append(variable.get()))
    context = contextvars.copy_context()
    context.run(variable.set, 9)
    await asyncio.create_task(work(3), context=context)
    log += [variable.get(), context[variable], await asyncio.to_thread(variable.get)]
    return log


async def threads():
    def work(n):
        if n == 2:
            raise KeyError(n)
        return n

    loop = asyncio.get_running_loop()
    results = await asyncio.gather(
        *[loop.run_in_executor(None, functools.partial(work, n)) for n in range(4)], return_exceptions=True
    )

    def back_into_the_loop():
        return asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "from the loop"), loop).result()

    return [repr(result) for result in results], await asyncio.to_thread(back_into_the_loop)


async def callbacks_of_futures():
    loop, log = asyncio.get_running_loop(), []
    future = loop.create_future()
    for n in range(3):
        future.add_done_callback(lambda _, n=n: log.append(n))
    loop.call_soon(future.set_result, "value")
    log.append(await future)
    future.add_done_callback(lambda _: log.append("late"))
    await asyncio.sleep(0)
    try:
        future.set_result("again")
    except asyncio.InvalidStateError:
        log.append("invalid")
    return log


async def eager_tasks():
    if sys.version_info < (3, 12):
        return None
    log = []

    async def work(n):
        log.append(("begins", n))
        await asyncio.sleep(0)
        log.append(("ends", n, asyncio.current_task().get_name()))

    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    tasks = [asyncio.create_task(work(n), name=f"worker {n}") for n in range(3)]
    log.append("made")
    await asyncio.gather(*tasks)
    return log


async def errors_in_callbacks():
    loop, log = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: log.append(repr(context.get("exception"))))
    loop.call_soon(lambda: 1 / 0)

    async def fail():
        raise LookupError("nobody looks")

    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    del task
    await asyncio.sleep(TICK)
    return log


async def streams():
    log = []

    async def serve(reader, writer):
        while line := await reader.readline():
            writer.write(b"echo " + line)
            await writer.drain()
        log.append("eof at the server")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        log.append(server.is_serving())
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"one\ntwo\n")
        writer.write(b"x" * 50_000 + b"\n")
        writer.write_eof()
        log.append([len(line) async for line in reader])
        writer.close()
        await writer.wait_closed()
        log.append((writer.is_closing(), reader.at_eof(), writer.get_extra_info("peername") == ("127.0.0.1", port)))
    try:
        await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        log.append("refused")
    return log


class Recorder(asyncio.Protocol):
    def __init__(self, log):
        self.log = log
        self.gone = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.log.append("made")

    def data_received(self, data):
        self.log.append(data)

    def eof_received(self):
        self.log.append("eof")

    def connection_lost(self, exc):
        self.log.append(("lost", type(exc).__name__))
        self.gone.set_result(None)


async def protocols():
    loop = asyncio.get_running_loop()
    sides = []

    def make():
        sides.append(Recorder([]))
        return sides[-1]

    server = await loop.create_server(make, "127.0.0.1", 0)
    _, client = await loop.create_connection(lambda: Recorder([]), *server.sockets[0].getsockname()[:2])
    client.transport.write(b"hello")
    client.transport.close()
    client.transport.write(b"never")
    await asyncio.gather(client.gone, sides[0].gone)
    _, second = await loop.create_connection(lambda: Recorder([]), *server.sockets[0].getsockname()[:2])
    await asyncio.sleep(TICK)
    second.transport.abort()
    await asyncio.gather(second.gone, sides[1].gone)
    server.close()
    await server.wait_closed()
    return client.log, sides[0].log, second.log, sides[1].log


async def back_pressure():
    loop = asyncio.get_running_loop()
    log = []
    size = 20_000_000

    class Writer(asyncio.Protocol):
        def pause_writing(self):
            log.append("pause")

        def resume_writing(self):
            log.append("resume")

    class Reader(asyncio.Protocol):
        got = 0

        def connection_made(self, transport):
            self.transport = transport
            transport.pause_reading()
            loop.call_later(TICK, transport.resume_reading)

        def data_received(self, data):
            self.got += len(data)
            if self.got == size:
                whole.set_result(None)

    whole = loop.create_future()
    server = await loop.create_server(Reader, "127.0.0.1", 0)
    transport, _ = await loop.create_connection(Writer, *server.sockets[0].getsockname()[:2])
    transport.write(bytes(size))
    log.append(transport.get_write_buffer_size() > 0)
    await whole
    await asyncio.sleep(TICK)
    log.append(transport.get_write_buffer_size())
    transport.close()
    server.close()
    return log


PROGRAMS = [
    thing for thing in list(globals().values()) if inspect.isfunction(thing) and inspect.iscoroutinefunction(thing)
]
