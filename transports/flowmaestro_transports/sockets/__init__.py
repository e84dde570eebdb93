"""`SocketTransport`: HTTP/1.1 for threads, on sockets that do not block and `poll`."""
