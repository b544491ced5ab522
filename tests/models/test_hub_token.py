"""The token of a hub: where it is found, and that it is told to nobody else."""

import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path

import pytest

from braintune.errors import InputError
from braintune.models.weights import download as downloading
from braintune.models.weights.fetching import hub_token


def test_redirects_keep_to_encryption_and_drop_the_token() -> None:
    redirects = downloading._Redirects("secret")
    asked = urllib.request.Request("https://huggingface.co/a", headers={"Range": "bytes=5-"})
    asked.add_unredirected_header("Authorization", "Bearer secret")

    def follow(url: str) -> urllib.request.Request:
        request = redirects.redirect_request(asked, None, 302, "", Message(), url)
        assert isinstance(request, urllib.request.Request)
        return request

    elsewhere = follow("https://cdn.example.org/a")
    assert elsewhere.get_header("Authorization") is None
    assert elsewhere.get_header("Range") == "bytes=5-"
    assert follow("https://huggingface.co/b").get_header("Authorization") == "Bearer secret"
    with pytest.raises(InputError, match="unprotected http://cdn.example.org/a"):
        follow("http://cdn.example.org/a")
    with pytest.raises(InputError, match="no address of the web"):
        follow("ftp://cdn.example.org/a")


def test_the_token_is_found_where_the_hub_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert hub_token() is None
    (tmp_path / "huggingface").mkdir()
    (tmp_path / "huggingface" / "token").write_text("kept\n")
    assert hub_token() == "kept"
    (tmp_path / "other").write_text("elsewhere")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "other"))
    assert hub_token() == "elsewhere"
    monkeypatch.setenv("HF_TOKEN", "given")
    assert hub_token() == "given"
