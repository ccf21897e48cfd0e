"""Records that come from elsewhere than the gateway, a Kafka topic or files, into the feedback log, each once."""
