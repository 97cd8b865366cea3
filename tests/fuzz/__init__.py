"""Coverage-guided fuzzing of all that reads an image: ``make fuzz``.

``patches`` says what an input means, ``fuzz`` runs atheris on it; what it found
is in ``corpus`` and is tested without atheris.
"""
