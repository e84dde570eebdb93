"""The blocking FlowMaestro client: ours on the transport of the argument, or the peer's."""

import gc
import time
import tracemalloc

from protocol import ARGUMENTS, INPUTS, KEY, RUNS_MS, URL, Measurement, late_ms, serve

import flowmaestro


def new_client(url=URL, **options):
    if ARGUMENTS:
        import flowmaestro_transports

        options["transport"] = getattr(flowmaestro_transports, ARGUMENTS[0])()
    return flowmaestro.FlowMaestroClient(api_key=KEY, base_url=url, **options)


client = new_client()


def call(count):
    for _ in range(count):
        client.workflows.get("wf_1")


def list_page(count):
    for _ in range(count):
        client.workflows.list(page=1, per_page=4)


def execute(count):
    for _ in range(count):
        client.workflows.execute("wf_1", inputs=INPUTS)


def events(count, kind="events"):
    for event in client.executions.stream(f"{kind}-{count}"):
        if event["type"] == "execution:completed":
            break


def long_streams(count, times):
    """Streams of `count` events on a warm client, less their opening: that of streams of one."""
    with Measurement() as streams:
        for _ in range(times):
            events(count)
    with Measurement() as opening:
        for _ in range(times):
            events(1)
    return streams.less(opening).of_one((count - 1) * times)


def pages(count, times):
    """Walk through `count` pages, with a client that has its connection."""
    with new_client(f"{URL}/pages-{count}") as one:
        one.workflows.list(per_page=4)
        with Measurement() as walks:
            for _ in range(times):
                for _ in one.workflows.iterate(per_page=4):
                    pass
    return walks.of_one(count * times)


def make(count, trace=False):
    """Time the first call of each new client, less a second; each has its own connection."""
    new_and_used()
    if trace:
        return {"held_kb": traced(count)}
    started = time.process_time_ns()
    clients = [new_and_used() for _ in range(count)]
    first = time.process_time_ns() - started
    for one in clients:
        one.workflows.get("wf_1")
    again = time.process_time_ns() - started - first
    return {"cpu_us": (first - again) / count / 1000}


def traced(count):
    tracemalloc.start()
    clients = [new_and_used() for _ in range(count)]
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return held / len(clients) / 1024


def new_and_used():
    made = new_client(f"{URL}/closing")
    made.workflows.get("wf_1")
    return made


def overshoot(count):
    late = []
    for number in range(count):
        workflow = f"run-{RUNS_MS[number % len(RUNS_MS)]}"
        if ARGUMENTS:
            ended = client.workflows.run(workflow, inputs=INPUTS)
        else:
            started = client.workflows.execute(workflow, inputs=INPUTS)
            ended = client.executions.wait_for_completion(started["data"]["execution_id"])
        late.append(late_ms(ended["outputs"]))
    return {"late_ms": max(late)}


serve(
    call=call,
    list_page=list_page,
    execute=execute,
    events=events,
    long_streams=long_streams,
    pages=pages,
    make=make,
    overshoot=overshoot,
)
