"""The types of an account's own workflows: what is known of them, a file of types, its changes."""
