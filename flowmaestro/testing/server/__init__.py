"""The embedded FlowMaestro on a real port."""
