"""RequestsTransport: for people who have a requests.Session."""
