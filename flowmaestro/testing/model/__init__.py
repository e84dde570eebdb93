"""The embedded FlowMaestro: its state, its rules, and what its endpoints answer."""
