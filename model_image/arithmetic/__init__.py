"""The model `arithmetic`: a character-level Qwen2 small enough to train on one core and to commit, real enough to
serve.
"""
