"""Figures that need the real API server: printed for a person to judge, never asserted."""
