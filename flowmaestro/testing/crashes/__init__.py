"""Kill a user's own task at every step, and judge what came of it. `every_crash` is the entry."""
