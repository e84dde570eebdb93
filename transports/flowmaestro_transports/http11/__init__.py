"""One HTTP/1.1 for every transport of ours that moves its own bytes."""
