"""What every part of the transports may use: claims, guards, locks and checks of callbacks."""
