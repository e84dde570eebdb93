"""What several tests stand on: servers, worlds, and programs that run by themselves."""
