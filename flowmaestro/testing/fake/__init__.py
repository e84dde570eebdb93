"""The fake FlowMaestro: a model of the service, what tests script and assert, and its server."""
