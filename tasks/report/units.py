"""Write durations, sizes and shares for people."""


def show_seconds(value: float) -> str:
    """Return a duration in a readable unit."""
    if value < 1:
        return f"{1000 * value:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def show_percent(value: float) -> str:
    """Return a share as a percentage; 0 % and 100 % only if exact."""
    if value not in (0, 1) and not 0.001 <= value <= 0.995:
        return "< 0.1 %" if value < 0.5 else f"{min(99.9, 100 * value):.1f} %"
    return f"{100 * value:.1f} %" if 0 < value < 0.1 else f"{100 * value:.0f} %"


def show_bytes(value: float) -> str:
    """Return a size in a readable unit, in powers of 1000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} TB"
