"""The pure core of the FlowMaestro SDK: everything about the API, and no I/O."""
