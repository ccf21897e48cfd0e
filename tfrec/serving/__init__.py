"""From a trained model to answers over the network: index, export, release, server, client, gateway."""
