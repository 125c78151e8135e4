"""Which config runs next, when a trial has told enough, when the study may end."""
