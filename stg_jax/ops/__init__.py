"""Operations tuned for a platform.

Each file begins with the plain definition of what it computes; the tuned form follows, and a test
in tests/ops/ holds the two equal. Nothing here knows of the network: `model/` reads like the paper.
"""
