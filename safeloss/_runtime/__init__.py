"""How a call runs. `README.md` in this folder is the life of a call."""
