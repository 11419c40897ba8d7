"""A sealed testimony reaches a real server over a network that cuts, flips, lies and loses; nothing is sealed twice."""

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from amana.client.delivery import Delivery
from amana.client.directory import VerifiedDirectory
from amana.client.errors import ClientError, NetworkFailed, NotVerified, Refused
from amana.client.progress import Silent
from amana.client.statefile import StateFile
from amana.client.transport import Patience, Transport
from amana.client.witness import (
    Wishes,
    as_sending,
    choose_attachments,
    choose_consent,
    get_directory,
    seal_testimony,
)
from amana.protocol.admission import Proof
from amana.protocol.codename import Codename, thread_keys
from amana.protocol.receipt import verify_receipt
from amana.protocol.signing import SigningKey
from tests.support.cutting_proxy import End, cutting_proxy
from tests.support.relay import relay_to
from tests.support.scripted import answer, scripted_server
from tests.support.server import Service, make_demo, running_service

SWIFT = Patience(attempts=4, first_seconds=0.02, longest_seconds=0.1)
SIZES = (70_000, 1_500_000)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    with running_service(folder) as running:
        make_demo(running, folder / "demo")
        yield running


@pytest.fixture(scope="module")
def verified(service: Service) -> VerifiedDirectory:
    root = (service.folder / "demo" / "root.json").read_bytes()
    with Transport(service.url) as transport:
        return get_directory(transport, root, SWIFT)


class Sent:
    """A testimony that was sealed for the service and waits in its state file."""

    def __init__(
        self, folder: Path, service: Service, verified: VerifiedDirectory, sizes: tuple[int, ...]
    ) -> None:
        paths = [folder / f"{n}.bin" for n in range(len(sizes))]
        for path, size in zip(paths, sizes, strict=True):
            path.write_bytes(os.urandom(size))
        self.state = StateFile(folder / "state")
        self.state.begin()
        submission = seal_testimony(
            b'{"synthetic":true}',
            choose_attachments([], paths),
            Wishes("chemical", "ar", {"review": "allow"}),
            choose_consent(verified.directory, "ar"),
            verified,
            thread_keys(Codename.generate().master(verified.directory.deployment)),
            0,
            self.state,
            Silent(),
        )
        with Transport(service.url) as transport:
            self.state.save(as_sending(submission, verified, transport, None))
        self.key = verified.pins.custody_log_key

    def deliver(self, url: str, patience: Patience = SWIFT) -> Delivery:
        """Deliver from the state file, as a new process would; the receipt is verified once more."""
        sending = self.state.load()
        with Transport(url, silence_seconds=10) as transport:
            delivery = Delivery(
                self.state, sending, transport, patience=patience, progress=Silent()
            )
            receipt = verify_receipt(delivery.run(), self.key)
        assert receipt.case == sending.submission.case.decode()
        return delivery

    def fail(self, url: str, error: type[ClientError], **changes: str) -> ClientError:
        """Fail to deliver, and keep the state."""
        before = self.state.load()
        with Transport(url, silence_seconds=10) as transport:
            sending = replace(before, **changes)
            delivery = Delivery(self.state, sending, transport, patience=SWIFT, progress=Silent())
            with pytest.raises(error) as failed:
                delivery.run()
        assert self.state.load().submission == before.submission
        return failed.value


@pytest.fixture
def sent(tmp_path: Path, service: Service, verified: VerifiedDirectory) -> Sent:
    return Sent(tmp_path, service, verified, SIZES)


@pytest.fixture
def text_only(tmp_path: Path, service: Service, verified: VerifiedDirectory) -> Sent:
    return Sent(tmp_path, service, verified, ())


def test_a_testimony_arrives_with_all_its_bytes(sent: Sent, service: Service) -> None:
    delivery = sent.deliver(service.url)
    assert delivery.arrived_bytes == delivery.total_bytes > sum(SIZES)


def test_a_text_arrives_in_one_request(text_only: Sent, service: Service) -> None:
    delivery = text_only.deliver(service.url)
    assert not delivery.sending.announced


@pytest.mark.parametrize("end", End)
def test_a_connection_cut_again_and_again_loses_no_byte(
    sent: Sent, service: Service, end: End
) -> None:
    chance = random.Random(end.value)
    cuts = [(chance.randrange(1, 200_000), end) for _ in range(20)]
    with cutting_proxy(service.url, cuts) as proxy:
        sent.deliver(proxy.url, Patience(attempts=30, first_seconds=0.01, longest_seconds=0.02))
        assert proxy.done >= 10


def test_after_patience_ended_another_process_goes_on(sent: Sent, service: Service) -> None:
    submission = sent.state.load().submission
    with cutting_proxy(service.url, [(40_000, End.RST)] * 4) as proxy:
        sent.fail(proxy.url, NetworkFailed)
    with cutting_proxy(service.url, [(400_000, End.RST), *[(1, End.FIN)] * 4]) as proxy:
        sent.fail(proxy.url, NetworkFailed)
    assert sent.state.load().submission == submission
    sent.deliver(service.url)


def test_an_answer_that_was_lost_is_asked_for_again(text_only: Sent, service: Service) -> None:
    first = text_only.deliver(service.url)
    # The state knows nothing of the answer, as if it had been lost.
    assert text_only.state.load() == first.sending
    text_only.deliver(service.url)


def test_addresses_that_were_lost_are_asked_for_again(sent: Sent, service: Service) -> None:
    before = sent.state.load()
    announce(sent, service.url)
    sent.state.save(replace(sent.state.load(), uploads={}, completion=None))
    assert sent.state.load().admission != before.admission
    sent.deliver(service.url)


def announce(sent: Sent, url: str) -> None:
    """Announce, and send no object yet."""
    with Transport(url) as transport:
        sending = sent.state.load()
        delivery = Delivery(sent.state, sending, transport, patience=SWIFT, progress=Silent())
        assert delivery._announce() is None


def relay_url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def test_bytes_that_were_changed_on_the_way_are_sent_again(sent: Sent, service: Service) -> None:
    with relay_to(service.url) as relay:
        announce(sent, relay_url(relay.port))
        relay.flip = 60_000
        sent.deliver(relay_url(relay.port))
        assert relay.flip is None


def test_an_object_that_never_arrives_whole_ends_in_a_refusal(sent: Sent, service: Service) -> None:
    sealed = sent.state.sealed_path(1)
    data = bytearray(sealed.read_bytes())
    data[-1] ^= 1
    sealed.write_bytes(data)
    assert sent.fail(service.url, Refused).slug == "object-hash-mismatch"


def test_an_unreachable_server_keeps_the_state(sent: Sent, service: Service) -> None:
    with scripted_server() as nobody:
        url = nobody.url
    assert sent.fail(url, NetworkFailed).slug == "network"
    sent.deliver(service.url)


def test_an_upload_that_somebody_deleted_is_reported_and_nothing_is_lost(
    sent: Sent, service: Service
) -> None:
    announce(sent, service.url)
    location = sent.state.load().uploads[1]
    httpx2.delete(service.url + location, headers={"Tus-Resumable": "1.0.0"}).raise_for_status()
    assert sent.fail(service.url, NetworkFailed).slug == "uploads-lost"


def test_a_new_price_is_paid_without_sealing_again(
    tmp_path: Path, verified: VerifiedDirectory, service: Service
) -> None:
    sent = Sent(tmp_path, service, verified, (70_000,))
    sealed = sent.state.sealed_path(1).read_bytes()
    cheap = Proof(verified.directory.deployment, 0, bytes(16))
    stale = replace(cheap, day="2013-08-21")
    sent.state.save(replace(sent.state.load(), admission=stale.to_bytes()))
    before = sent.state.load().submission
    delivery = sent.deliver(service.url)
    assert delivery.sending.submission == before
    assert delivery.sending.admission not in {None, stale.to_bytes()}
    assert sent.state.sealed_path(1).read_bytes() == sealed


def test_a_price_that_rises_while_paying_is_paid_again(text_only: Sent) -> None:
    def asked(price: int) -> bytes:
        notice = {"v": 1, "day": "2026-11-23", "seed": "A" * 43 + "=", "price": price}
        document = {"type": "admission-price", "title": "Dearer.", "notice": notice}
        return answer(402, httpx2.Response(200, json=document).content)

    notice = b'{"v":1,"day":"2026-11-23","seed":"' + b"A" * 43 + b'=","price":0}'
    with scripted_server(answer(200, notice), asked(3), *[asked(4)] * 3) as server:
        assert text_only.fail(server.url, NetworkFailed).slug == "admission-price"
        proofs = [one.body for one in server.asked if one.line.startswith("POST")]
        assert [
            f'"price":{n}'.encode() in body for n, body in zip((0, 3, 4, 4), proofs, strict=True)
        ]
    proof = text_only.state.load().admission
    assert proof is not None
    assert Proof.parse(proof).price == 4


@pytest.mark.parametrize(
    "notice", [b"null", b"{}", b'{"v":1,"day":"2026-11-23","seed":"AA==","price":0}']
)
def test_a_price_that_cannot_be_read_is_a_refusal(text_only: Sent, notice: bytes) -> None:
    body = b'{"type":"admission-wrong","title":"Pay.","notice":' + notice + b"}"
    with scripted_server(answer(402, body)) as server:
        text_only.state.save(replace(text_only.state.load(), admission=b"old"))
        assert text_only.fail(server.url, Refused).slug == "admission-wrong"


def test_a_price_beyond_all_reason_is_not_paid(text_only: Sent) -> None:
    notice = b'{"v":1,"day":"2026-11-23","seed":"' + b"A" * 43 + b'=","price":200}'
    with scripted_server(answer(200, notice)) as server:
        text_only.fail(server.url, Refused)


def test_a_receipt_of_another_log_is_not_believed(text_only: Sent, service: Service) -> None:
    other = SigningKey.generate().public
    error = text_only.fail(service.url, NotVerified, custody_log_key=other)
    assert error.slug == "bad-signature"


def test_a_receipt_for_something_else_is_not_believed(
    tmp_path: Path, service: Service, verified: VerifiedDirectory
) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    first = Sent(tmp_path / "1", service, verified, ())
    second = Sent(tmp_path / "2", service, verified, ())
    with Transport(service.url) as transport:
        sending = first.state.load()
        receipt = Delivery(first.state, sending, transport, patience=SWIFT, progress=Silent()).run()
    body = httpx2.Response(200, json={"case": receipt["case"], "receipt": receipt}).content
    second.state.save(replace(second.state.load(), admission=b"paid"))
    with scripted_server(answer(201, body)) as server:
        assert second.fail(server.url, NotVerified).slug == "receipt-differs"


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"uploads": [], "completion": "/c"}',
        b'{"uploads": [{"i": 1, "location": "/a"}], "completion": "/c"}',
        b'{"uploads": [{"i": 1, "location": "/a"}, {"i": 2, "location": "//evil"}], "completion": "/c"}',
        b'{"uploads": [{"i": 1, "location": "/a"}, {"i": 2, "location": "/b"}], "completion": null}',
        b"[]",
        b"<html>",
    ],
)
def test_an_answer_that_leads_nowhere_is_not_followed(sent: Sent, body: bytes) -> None:
    sent.state.save(replace(sent.state.load(), admission=b"paid"))
    with scripted_server(answer(201, body)) as server:
        assert sent.fail(server.url, NotVerified).slug == "bad-answer"
    assert not sent.state.load().announced


@pytest.mark.parametrize("offset", ["", "-1", "99999999", "1e3", "٣"])
def test_an_offset_that_cannot_be_is_not_believed(sent: Sent, offset: str) -> None:
    uploads = {1: "/a", 2: "/b"}
    sent.state.save(replace(sent.state.load(), uploads=uploads, completion="/c"))
    with scripted_server(answer(200, Upload_Offset=offset)) as server:
        assert sent.fail(server.url, NotVerified).slug == "bad-answer"
