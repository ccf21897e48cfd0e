"""HTTP at the gateway: bodies, keys, rate limits, connections, errors, OpenAPI."""
