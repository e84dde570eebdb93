"""The model of the service: its state, its rules, and the responses of its endpoints. Pure."""
