"""Training of the text encoder: on pairs (`tune`) and on masked words (`pretrain`)."""
