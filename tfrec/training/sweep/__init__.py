"""The search for hyper-parameters: `space` says what is varied, `search` runs the trials, `report` tells what they found."""
