"""Operations tuned for a platform; each file begins with the plain definition."""
