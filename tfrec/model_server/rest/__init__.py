"""The REST half of the embedded server: HTTP, and JSON to arrays and back. It knows of no gRPC but the status codes."""
