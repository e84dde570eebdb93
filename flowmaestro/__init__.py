"""FlowMaestro for Python."""
