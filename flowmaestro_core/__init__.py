"""The pure core of the FlowMaestro SDK: everything about the API, and no I/O.

Nothing in this package opens a socket, starts a thread, reads a clock, draws random numbers,
looks at the environment or awaits. Each request of a client is made by a *machine* (`machine.py`).
The machine returns actions (`actions.py`). A driver carries out each action and reports the result
to the machine.
"""

__version__ = "1.0.0"
