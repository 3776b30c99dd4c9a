"""Language models that turn captions into concepts: on any OpenAI-compatible server, or in this process.

``config`` defines the language model's profile fields and ``build`` creates a summariser from them. Importing either is
light: ``openai``, ``tenacity`` and ``transformers`` are imported when a model is first used.
"""
