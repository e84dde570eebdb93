"""The two dialects of the API: as documented, and as deployed where that differs."""
