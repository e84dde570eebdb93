"""The fake FlowMaestro: its state, its rules, and the responses of its endpoints."""
