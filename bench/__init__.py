"""What Davylamp costs, measured on a real control plane: `python -m bench [writes|idle|burst|fleet]`."""
