"""What goes into a request body, and what a reply says."""
