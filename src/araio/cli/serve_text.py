"""What `araio serve` says once it is ready: one line, the page's address, a snippet that runs as pasted."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path

from araio.serve.service import Service
from araio.serve.settings import Settings

__all__ = ["ready_text", "url_of"]

SNIPPET = """\
{imports}
client = openai.OpenAI(base_url="{url}/v1", api_key={key})
question = [{{"role": "user", "content": "What is 47 + 38 - 12?"}}]
answer = client.chat.completions.create(model={model}, messages=question).choices[0].message
print(answer.{field})
print(answer.content)"""


def url_of(host: str, port: int) -> str:
    """The address that a client on this machine uses."""
    try:
        address = ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    if address.is_unspecified:
        return f"http://127.0.0.1:{port}" if address.version == 4 else f"http://[::1]:{port}"
    return f"http://{address}:{port}" if address.version == 4 else f"http://[{address}]:{port}"


def ready_text(service: Service, url: str, key_file: Path | None) -> str:
    """All of it."""
    settings = service.settings
    snippet = SNIPPET.format(
        imports="import os, openai" if settings.keys and key_file is None else "import openai",
        url=url,
        key=_key_text(settings, key_file),
        model=json.dumps(service.name),
        field=settings.reasoning_field,
    )
    together = service.model.engine.max_batch
    return (
        f"{service.model.label} is ready at {url}/v1, {together} requests at a time; Ctrl-C ends it\n"
        f"page: {url}/\n{_others_text(settings.host)}\n{snippet}\n"
    )


def _others_text(host: str) -> str:
    """How others reach a server that listens on every address; nothing where that is the address shown."""
    try:
        is_every = ip_address(host).is_unspecified
    except ValueError:
        return ""
    more = "from other machines: by an address of this one, or by a name that --allow-host gives it\n"
    return more if is_every else ""


def _key_text(settings: Settings, key_file: Path | None) -> str:
    """Python that gives a key, without showing it."""
    if not settings.keys:
        return '"none needed"'
    if key_file is None:
        return 'os.environ["ARAIO_API_KEYS"].split(",")[0].strip()'
    path = str(key_file.absolute())
    return f'next(line.strip() for line in open({path!r}) if line.strip() and line[0] != "#")'
