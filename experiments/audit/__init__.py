"""The audit of accuracy proxies: what is trained, what the proxies say, and how well they rank."""
