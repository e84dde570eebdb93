"""Messages to an agent, and the answer as a stream."""
