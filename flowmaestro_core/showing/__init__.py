"""What objects show of themselves, in words, in HTML and as a picture. Pure."""
