"""`SocketTransport`: HTTP/1.1 for threads, with non-blocking sockets and `poll` or `select`."""
