"""Devices, processes and compiled programs.

The only package that knows of devices and hosts: what it offers works the same on one CPU, on the
GPUs of a host, and on a pod.
"""
