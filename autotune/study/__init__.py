"""The record of a search: an Optuna study, a folder of files, a lease and intents."""
