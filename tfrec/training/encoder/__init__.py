"""Training of the text encoder itself: on pairs (`tune`) and on masked words (`pretrain`)."""
