"""The name by which users recognise a device: its browser and its system, from the header User-Agent.

Only this short text is stored. A browser can claim to be any other, so the name proves nothing.
"""

import re

_MAX_HEADER = 512

# In this order, since browsers that are built on another one name that one too.
_PROGRAMS = (
    ("Edge", r"Edg(?:e|A|iOS)?/"),
    ("Opera", r"OPR/|Opera"),
    ("Samsung Internet", r"SamsungBrowser/"),
    ("Firefox", r"Firefox/|FxiOS/"),
    ("Chrome", r"(?:Headless)?Chrom(?:e|ium)/|CriOS/"),
    ("Safari", r"Version/\S+ .*Safari/"),
    ("curl", r"^curl/"),
    ("Python", r"^(?:python-requests|Python-urllib|python-httpx|aiohttp)\b"),
    ("Node.js", r"^node\b|^undici|^axios/"),
    ("Go", r"^Go-http-client/"),
)
_SYSTEMS = (
    ("iPhone", r"iPhone"),
    ("iPad", r"iPad"),
    ("Android", r"Android"),
    ("ChromeOS", r"CrOS"),
    ("Windows", r"Windows"),
    ("macOS", r"Mac OS X|Macintosh"),
    ("Linux", r"Linux|X11"),
)


def device_name(user_agent: str) -> str | None:
    """Such as “Firefox on Windows”, or None if neither browser nor system is known."""
    user_agent = user_agent[:_MAX_HEADER]
    program, system = _first(_PROGRAMS, user_agent), _first(_SYSTEMS, user_agent)
    return f"{program} on {system}" if program and system else program or system


def _first(kinds: tuple[tuple[str, str], ...], user_agent: str) -> str | None:
    return next((name for name, pattern in kinds if re.search(pattern, user_agent)), None)
