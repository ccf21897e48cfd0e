"""Who a row is of: pseudonyms of users, and the tombstones of those who were erased."""
