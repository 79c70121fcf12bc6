"""The processes of the service: serving, workers, signals and standard error."""
