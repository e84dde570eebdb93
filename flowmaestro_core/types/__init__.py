"""The shapes of what the API sends, as `TypedDict`s, and its closed sets of names.

A required key of a resource is present in what the SDK returns, whether the server names its keys
as documented or as deployed. If the server sent no value for it, the SDK derives one or sets
`None`; a missing `usage` becomes an object. A key of a `total=False` part may be missing.
"""

# If a new name is missing here, add it to `__all__` of its file: `events.py`, `resources.py` or
# `workflow_id.py`.
from flowmaestro_core.types.events import *  # noqa: F403
from flowmaestro_core.types.resources import *  # noqa: F403
from flowmaestro_core.types.workflow_id import *  # noqa: F403
