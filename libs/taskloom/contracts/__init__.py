"""The files in ``contracts/``: made from the code, compared with what is there, and with the last release."""
