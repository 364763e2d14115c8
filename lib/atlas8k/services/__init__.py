"""The use-cases, without HTTP: what server and command line do."""
