"""The fake FlowMaestro on a real port."""
