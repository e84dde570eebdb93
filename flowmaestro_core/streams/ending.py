"""How an event stream will end, as far as that is known.

A stream has one ending, or none yet (`None`). The four legal values:

| value          | the stream will                             | another ending replaces it if |
|----------------|---------------------------------------------|-------------------------------|
| `None`         | go on: how it ends is unknown               | anything shows its end        |
| `UnlessRead`   | end as soon as it has read what has arrived | a terminal event is among it  |
| `UnlessProbed` | fail, with no body open and none to open    | a probe finds another ending  |
| `Certain`      | end as soon as no body is open              | never                         |

An ending leads only to one of its kind or of a kind below it in the table. Two exceptions lead to
`None`:

* `UnlessProbed` with `resumes`, if a probe finds that the server is back and the execution runs;
* `UnlessRead` that is a timeout, if an event that has arrived moves the deadline.
"""

from __future__ import annotations

from typing import NamedTuple, Union

from flowmaestro_core.actions import Emit, Fail


class Certain(NamedTuple):
    """The stream ends with `action`: it emits the terminal event, or fails."""

    action: Union[Emit, Fail]


class UnlessRead(NamedTuple):
    """The stream ends with `action`, unless the open body has a terminal event.

    At most `reads_left` more pieces of the body are read, as long as they have arrived already.
    """

    action: Union[Emit, Fail]
    reads_left: int

    def after_read(self) -> Union[UnlessRead, Certain]:
        """Return the ending after one more read, which found no terminal event.

        It is `Certain` after the last of the reads that were left.
        """
        if self.reads_left > 1:
            return UnlessRead(self.action, self.reads_left - 1)
        return Certain(self.action)


class UnlessProbed(NamedTuple):
    """The stream fails with `action`, unless a probe finds another ending.

    With `resumes`, it also goes on if a probe is answered and finds that the execution still runs:
    the server was only away for too long.
    """

    action: Fail
    resumes: bool = False


Ending = Union[UnlessRead, UnlessProbed, Certain]
