"""The embedded FlowMaestro: its state, its rules, and the responses of its endpoints."""
