"""The gateway's HTTP: bodies, keys, rate limits, connections, errors and OpenAPI."""
