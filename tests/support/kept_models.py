"""What a process keeps loaded, forgotten: tests change a model's files under a name that was loaded before."""

from tailforge.tasks.models import cache


def forget_all() -> None:
    """Drop every kept model."""
    with cache._lock:
        cache._loaded.clear()
