"""HTTP/1.1, as the packages `sockets` and `anyio` share it. Nothing here waits for the network.

`exchange` is a state machine. It turns a request into bytes to send, and received bytes into a head
and the pieces of a body. `wire` sends and receives bytes without waiting. A `round_trip` is a
series of steps, each of which says what to wait for; the packages `sockets` and `anyio` do the
waiting.
"""
