"""h11 over an anyio socket: the smallest loop that is right, on the backend of the argument."""

import json
from urllib.parse import urlsplit

import anyio
import h11
from protocol import ARGUMENTS, HEADERS, INPUTS, URL, Holding, serve_awaiting

place = urlsplit(URL)


class Connection:
    @classmethod
    async def open(cls):
        self = cls()
        self.socket = await anyio.connect_tcp(place.hostname, place.port)
        self.state = h11.Connection(h11.CLIENT)
        return self

    async def send(self, method, path, body=b""):
        fields = {"Host": place.netloc, **HEADERS}
        if body:
            fields["Content-Length"] = str(len(body))
        request = h11.Request(method=method, target=path, headers=list(fields.items()))
        data = self.state.send(request)
        if body:
            data += self.state.send(h11.Data(body))
        data += self.state.send(h11.EndOfMessage())
        await self.socket.send(data)

    async def event(self):
        while True:
            event = self.state.next_event()
            if event is not h11.NEED_DATA:
                return event
            self.state.receive_data(await self.socket.receive(65_536))

    async def exchange(self, method, path, body=b""):
        content = b""
        with anyio.fail_after(30):  # as ours has a time limit
            await self.send(method, path, body)
            while True:
                event = await self.event()
                if isinstance(event, h11.Data):
                    content += event.data
                elif isinstance(event, h11.EndOfMessage):
                    break
        self.state.start_next_cycle()
        return json.loads(content)


async def main():
    connection = await Connection.open()

    async def call(count):
        for _ in range(count):
            await connection.exchange("GET", "/api/v1/workflows/wf_1")

    async def list_page(count):
        for _ in range(count):
            await connection.exchange("GET", "/api/v1/workflows?page=1&per_page=4")

    async def execute(count):
        for _ in range(count):
            body = json.dumps({"inputs": INPUTS}).encode()
            await connection.exchange("POST", "/api/v1/workflows/wf_1/execute", body)

    async def idle(count):
        streams = []

        async def open_one():
            stream = await Connection.open()
            await stream.send("GET", "/api/v1/executions/idle/events")
            while not isinstance(await stream.event(), h11.Data):
                pass
            streams.append(stream)

        await open_one()
        with Holding() as held:
            async with anyio.create_task_group() as group:
                for _ in range(count):
                    group.start_soon(open_one)
        for stream in streams:
            await stream.socket.aclose()
        return held.of_one(count)

    await serve_awaiting(call=call, list_page=list_page, execute=execute, idle=idle)
    await connection.socket.aclose()


anyio.run(main, backend=ARGUMENTS[0])
