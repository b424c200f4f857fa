"""Keep versions and models in repositories of the Hugging Face Hub."""
