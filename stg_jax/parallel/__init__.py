"""Devices, processes and compiled programs; everything that computes runs through here."""
