"""Tables, figures and the report, made from the results store alone. Never imports torch."""
