"""A guard that does not time: how many instructions the core's hot paths take.

    python -m benchmarks.instructions            # compare with what is recorded
    python -m benchmarks.instructions --record   # record for this interpreter

`valgrind --tool=callgrind` counts instructions, which is the same on a busy machine as on a quiet
one. Each path runs in an interpreter of its own, once for few rounds and once for many; the
difference is the rounds alone, without start and imports.

The figures belong to one build of the interpreter and live in `recorded.json`. On a build that
is not there, and where there is no valgrind, nothing is checked, and that is said aloud.
Record anew when a change is meant to cost, and say so in its commit.
"""
