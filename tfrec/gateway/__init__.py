"""The gateway that an application calls: it asks the model server, and logs what was shown and what people did."""
