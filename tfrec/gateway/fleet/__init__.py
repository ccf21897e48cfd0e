"""Several gateways of one run: what one of them records, all of them know."""
