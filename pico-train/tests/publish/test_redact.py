"""Secrets are cut out of every text."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from pico_train.publish import redact


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("PUT http://h/_lfs/put/x?sig=0123456789abcdef", "0123456789abcdef"),
        ("https://s3/x?X-Amz-Signature=abcdef&X-Amz-Credential=AKIA123", "AKIA123"),
        ("Authorization: Bearer hf_abcdefghijklmnop", "hf_abcdefghijklmnop"),
        ("{'X-Xet-Access-Token': 'eyJhbGciOi'}", "eyJhbGciOi"),
        ("accessToken='xet_0123456789'", "xet_0123456789"),
        ("token hf_abcdefghijklmnop failed", "abcdefghijklmnop"),
    ],
)
def test_secrets_are_cut_out(text: str, secret: str) -> None:
    assert secret not in redact.clean(text)


def test_what_is_no_secret_stays() -> None:
    for text in ("step 128: model.safetensors is missing", "http://127.0.0.1:80/api/models/a/b/refs answers 503"):
        assert redact.clean(text) == text


def test_a_remembered_secret_is_cut_out_whatever_it_looks_like() -> None:
    code = (
        "import logging, sys; from pico_train.publish import redact\n"
        "redact.remember('plain words'); redact.install(); logging.basicConfig(stream=sys.stderr)\n"
        "logging.getLogger('other').error('saw %s', 'plain words')\n"
        "try: raise ValueError('plain words')\n"
        "except ValueError: logging.exception('failed')\n"
        "raise RuntimeError('plain words')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "RuntimeError" in done.stderr and "ValueError" in done.stderr and "saw …" in done.stderr
    assert "plain words" not in done.stderr.replace("raise ", "").replace("code", "")
    assert logging.getLogRecordFactory() is logging.LogRecord, "only the process that asks for it"
