"""The pure core of the FlowMaestro SDK: everything about the API, and no I/O.

Nothing in this package opens a socket, starts a thread, reads a clock, draws random numbers,
looks at the environment or awaits. What a client can do is a *machine* (`machine.py`): a driver
carries out the actions it asks for (`actions.py`) and reports what happened.
"""

__version__ = "1.0.0"
