"""Settings: bounds, secret files, unknown names, TLS rules, and the page that documents them."""

from pathlib import Path

import pytest

from keyway.cli.settings import settings_page
from shared.errors import ConfigurationError
from shared.settings import load_settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_page_lists_the_settings_as_they_are() -> None:
    assert PAGE.read_text(encoding="utf-8") == settings_page(), "run: keyway settings --markdown > docs/settings.md"


def test_unknown_variable_stops_the_start_and_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"KEYWAY_REPLY_BUDGET\b"):
        load_settings({"KEYWAY_REPLY_BUDGET": "5"})


def test_other_variables_are_none_of_our_business() -> None:
    assert load_settings({"PATH": "/bin", "OTEL_SERVICE_NAME": "x"}).http_port == 8080


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEYWAY_REPLY_BUDGET_SECONDS", "0"),
        ("KEYWAY_REPLY_BUDGET_SECONDS", "soon"),
        ("KEYWAY_BODY_LIMIT_BYTES", "10"),
        ("KEYWAY_INFLIGHT_MAX", "0"),
        ("KEYWAY_LOG_LEVEL", "LOUD"),
        ("KEYWAY_TOPIC_PREFIX", "Upper case"),
    ],
)
def test_value_out_of_bounds_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        load_settings({name: value})


def test_a_secret_may_stand_in_a_file_and_is_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("postgresql://u:canary@h/d\n")

    settings = load_settings({"KEYWAY_DATABASE_URL_FILE": str(secret)})

    assert settings.require_database_url() == "postgresql://u:canary@h/d"
    assert "canary" not in repr(settings)


def test_a_secret_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ConfigurationError, match="KEYWAY_DATABASE_URL_FILE"):
        load_settings({"KEYWAY_DATABASE_URL_FILE": "/nowhere/at/all"})


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "gateway.example"])
def test_a_public_address_without_tls_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match="KEYWAY_TLS_CERT"):
        load_settings({"KEYWAY_HTTP_HOST": host})


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_loopback_needs_no_tls(host: str) -> None:
    assert load_settings({"KEYWAY_HTTP_HOST": host}).http_host == host


def test_a_declared_proxy_or_a_certificate_allows_a_public_address() -> None:
    assert load_settings({"KEYWAY_HTTP_HOST": "0.0.0.0", "KEYWAY_BEHIND_TLS_PROXY": "true"}).behind_tls_proxy
    assert load_settings({"KEYWAY_HTTP_HOST": "0.0.0.0", "KEYWAY_TLS_CERT": "c", "KEYWAY_TLS_KEY": "k"}).tls_cert


def test_half_a_certificate_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="go together"):
        load_settings({"KEYWAY_TLS_CERT": "c"})


@pytest.mark.parametrize("missing", ["require_database_url", "require_kafka_bootstrap", "require_signing_keys_file"])
def test_a_missing_necessity_says_what_to_do(missing: str) -> None:
    with pytest.raises(ConfigurationError, match="is not set"):
        getattr(load_settings({}), missing)()
