"""The receivers of `docs/webhooks.md` take what FlowMaestro signed, and refuse the rest."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from flowmaestro.webhooks import DELIVERY_ID_HEADER, SIGNATURE_HEADER
from flowmaestro_core.webhooks import sign

PAGE = Path(__file__).parents[2] / "docs" / "webhooks.md"
BODY = b'{"id": "1", "event": "test", "created_at": "2026-01-01T00:00:00Z", "data": {}}'
HEADERS = {DELIVERY_ID_HEADER: "1", SIGNATURE_HEADER: sign(BODY, "whsec_...")}
FORGED = {DELIVERY_ID_HEADER: "1", SIGNATURE_HEADER: "v1=forged"}


def receiver(framework):
    """What the block under the framework's heading defines."""
    pytest.importorskip(framework.lower(), reason=f"{framework} is NOT INSTALLED here")
    text = PAGE.read_text(encoding="utf-8")
    code = re.search(rf"^## {framework}\n\n```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    namespace = {"__name__": "receiver"}
    exec(code[1], namespace)
    return namespace


def status_of_fastapi(headers):
    from fastapi.testclient import TestClient

    with TestClient(receiver("FastAPI")["app"]) as client:
        return client.post("/flowmaestro", content=BODY, headers=headers).status_code


def status_of_flask(headers):
    client = receiver("Flask")["app"].test_client()
    return client.post("/flowmaestro", data=BODY, headers=headers).status_code


def status_of_django(headers):
    namespace = receiver("Django")
    from django.conf import settings
    from django.test import RequestFactory

    if not settings.configured:
        settings.configure()
    sent = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    request = RequestFactory().post("/", BODY, content_type="application/json", **sent)
    return namespace["receive"](request).status_code


def status_of_aiohttp(headers):
    from aiohttp.test_utils import TestClient, TestServer

    async def post():
        async with TestClient(TestServer(receiver("aiohttp")["app"])) as client:
            return (await client.post("/flowmaestro", data=BODY, headers=headers)).status

    return asyncio.run(post())


@pytest.mark.parametrize(
    "post", [status_of_fastapi, status_of_flask, status_of_django, status_of_aiohttp]
)
def test_a_receiver_tells_what_is_authentic(post, capsys):
    assert post(HEADERS) == 204
    assert capsys.readouterr().out == "test\n"
    assert post(FORGED) == 401
    assert post({}) == 401
    assert capsys.readouterr().out == ""
