"""What every part of the transports may use: ownership, guards, locks and checks of callbacks."""
