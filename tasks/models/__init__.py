"""Adapters: diffusers and transformers models as the small protocols that methods speak, loaded once a process."""
