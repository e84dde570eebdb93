"""What every part of the transports may use: claims, guards, locks, checks of what users pass."""
