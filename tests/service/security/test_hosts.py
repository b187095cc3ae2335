"""URLs: one reading, which other readers share; and no address but those that are meant."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ApiError, StartError
from service.security.addresses import may_be_reached
from service.security.hosts import read_hosts, read_url
from service.settings import Settings

HOSTS = read_hosts(
    "media.example.org, media.example.org:8443, private:minio.internal, 8.8.8.8, [2606:4700::1]:444"
)
CHARS = 200

GOOD = {
    "https://media.example.org/dog.wav": ("media.example.org", 443, "/dog.wav"),
    "https://media.example.org": ("media.example.org", 443, "/"),
    "HTTPS://MEDIA.example.ORG:443/A%20b?x=1&y=/?z": ("media.example.org", 443, "/A%20b?x=1&y=/?z"),
    "https://media.example.org:8443?signature=a%2Fb==": ("media.example.org", 8443, "/?signature=a%2Fb=="),
    "https://minio.internal/bucket/a'b(c)": ("minio.internal", 443, "/bucket/a'b(c)"),
    "https://8.8.8.8/": ("8.8.8.8", 443, "/"),
    "https://[2606:4700::1]:444/x": ("2606:4700::1", 444, "/x"),
}
ELSEWHERE = [
    "https://elsewhere.example/",
    "https://media.example.org:444/",
    "https://media.example.org:0/",
    "https://media.example.org:99999/",
    "https://media.example.org./",
    "https://x.media.example.org/",
    "https://media.example.org.evil.example/",
    "https://xn--mdia-bpa.example.org/",
    "https://localhost/",
    "https://127.0.0.1/",
    "https://127.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0177.0.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://134744072/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:8.8.8.8]/",
    "https://[fd00:ec2::254]/",
    "https://[2606:4700:0::1]:444/",
]
UNREADABLE = [
    "",
    "dog.wav",
    "http://media.example.org/dog.wav",
    "ftp://media.example.org/",
    "file:///etc/passwd",
    "//media.example.org/",
    "https:/media.example.org/",
    "https:\\\\media.example.org\\",
    "https://media.example.org\\@evil.example/",
    "https://evil.example\\.media.example.org/",
    "https://user@media.example.org/",
    "https://user:password@media.example.org/",
    "https://media.example.org@evil.example/",
    "https://media.example.org#@evil.example/",
    "https://evil.example#media.example.org/",
    "https://media.example.org /",
    " https://media.example.org/",
    "https://media.example.org/\n",
    "https://media.example.org/a b",
    "https://media.example.org/\r\nHost: evil.example",
    "https://media.example.org/\x00",
    "https://media\t.example.org/",
    "https://media.example.org/é",
    "https://média.example.org/",
    "https://media。example。org/",
    "https://ⓜedia.example.org/",
    "https://media%2eexample.org/",
    "https://media.example.org:/",
    "https://media.example.org:443:443/",
    "https://media.example.org:+443/",
    "https://media.example.org:٤٤٣/",
    "https://[fe80::1%25eth0]/",
    "https://media.example.org/" + "x" * CHARS,
]


def code_of(url: str) -> str:
    with pytest.raises(ApiError) as refused:
        read_url(url, HOSTS, CHARS)
    assert refused.value.param == "url"
    assert "example" not in refused.value.message
    return refused.value.code


@pytest.mark.parametrize("url", GOOD)
def test_a_url_of_the_list_is_read(url: str) -> None:
    target = read_url(url, HOSTS, CHARS)
    assert (target.host.name, target.host.port, target.path) == GOOD[url]


@pytest.mark.parametrize("url", ELSEWHERE)
def test_what_is_not_on_the_list_is_not_allowed(url: str) -> None:
    assert code_of(url) == "url_not_allowed"


@pytest.mark.parametrize("url", UNREADABLE)
def test_what_two_may_read_in_two_ways_is_not_read(url: str) -> None:
    assert code_of(url) == "invalid_value"


PIECES = st.sampled_from(
    sorted(
        {
            *[
                "https",
                "http",
                "://",
                ":",
                "/",
                "\\",
                "@",
                "#",
                "?",
                "%",
                ".",
                "[",
                "]",
                "::1",
                "443",
                "8443",
                "8.8.8.8",
                "media.example.org",
                "evil.example",
            ]
        }
        | {" ", "\t", "。", "é", "user", "%40", "%2f", ";", "&"}
    )
)


@given(st.lists(PIECES, max_size=8).map(lambda rest: "https://" + "".join(rest)))
def test_whoever_else_reads_what_is_taken_reads_the_same(url: str) -> None:
    try:
        target = read_url(url, HOSTS, CHARS)
    except ApiError:
        return
    host = target.host
    standard, modern = urlsplit(url), httpx.URL(url)
    assert (standard.hostname, standard.port or 443) == (host.name, host.port)
    assert (modern.host, modern.port or 443) == (host.name, host.port)
    assert standard.username is standard.password is None
    assert modern.raw_path.decode() == target.path


BAD_ENTRIES = [
    "*",
    "*.example.org",
    "https://example.org",
    "example.org/",
    "127.1",
    "2130706433",
    "0x7f.1",
    "01.2.3.4",
    "example.org:0",
    "example.org:70000",
    "user@example.org",
    "private:",
    "[::0001]",
    "-x.org",
    "x..y",
]


@pytest.mark.parametrize("entry", [*BAD_ENTRIES, "a b"])
def test_a_list_holds_hosts(entry: str) -> None:
    with pytest.raises(StartError, match="TESSERA_URL_HOSTS must be hosts"):
        Settings.load(url_hosts=f"example.org,{entry}")


PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]
PRIVATE = ["127.0.0.1", "10.0.0.1", "172.16.5.4", "192.168.1.1", "100.64.0.1", "::1", "fd12::1"]
PRIVATE += ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1"]
NEVER = [
    "169.254.169.254",
    "169.254.0.1",
    "::ffff:169.254.169.254",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
]
NEVER += [
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "ff02::1",
    "255.255.255.255",
    "240.0.0.1",
    "100.100.100.200",
    "fec0::1",
]
NEVER += ["168.63.129.16", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "4000::1"]


@pytest.mark.parametrize("address", PUBLIC)
def test_the_internet_may_be_reached(address: str) -> None:
    assert may_be_reached(address, private=False)
    assert may_be_reached(address, private=True)


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_network_only_where_it_is_meant(address: str) -> None:
    assert not may_be_reached(address, private=False)
    assert may_be_reached(address, private=True)


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_never_reached(address: str) -> None:
    assert not may_be_reached(address, private=False)
    assert not may_be_reached(address, private=True)


@given(st.ip_addresses())
def test_no_address_is_private_and_reached(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if may_be_reached(str(address), private=False):
        assert not (
            address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
        ) or (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None)
