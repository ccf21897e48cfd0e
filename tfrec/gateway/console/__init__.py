"""The console: a page for the people who run a service, and the calls that only it makes."""
