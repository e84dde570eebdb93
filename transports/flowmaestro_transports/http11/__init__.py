"""One HTTP/1.1 exchange, and all that its drivers share. Nothing in here waits.

`exchange` is the machine: a request in, bytes out; bytes in, a head and the pieces of a body out.
`wire` moves bytes without waiting, and the steps of a `round_trip` say what to wait for. The
packages `sockets` and `anyio` do the waiting.
"""
