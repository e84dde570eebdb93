"""The shapes of what the API sends, as `TypedDict`s, and its closed sets of names.

A required key of a resource is present in what the SDK returns, whichever dialect the server
speaks; where the server sent no value for it, it is `None`. A key of a `total=False` part is there
only if the server sent it.
"""

from flowmaestro_core.types.events import *  # noqa: F403
from flowmaestro_core.types.resources import *  # noqa: F403
