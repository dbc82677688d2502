"""Messages reach a listener on this machine; addresses are never shown, and no failure harms who sends."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.support.listener import listening
from tests.support.patience import PATIENCE_SECONDS
from tune_mentormix.errors import RequestError
from tune_mentormix.results.news import Message
from tune_mentormix.results.notifications import Notifier, notifier_of_environment

END = Message("ended", "birds ended (finished)", "Best of 3 finished trials: 0.9.")
LOST = Message("failed", "birds failed: its driver died", "resume birds")
# A driver that says what to tell if it is lost, and waits to be killed.
DRIVER = f"""
import os, time
from tune_mentormix.results.news import Message
from tune_mentormix.results.notifications import notifier_of_environment
notifier = notifier_of_environment(os.environ)
notifier.expect_end(Message(*{tuple(LOST)!r}))
print("ready", flush=True)
time.sleep({PATIENCE_SECONDS})
"""


def test_a_message_arrives_and_only_of_the_kinds_that_are_asked_for() -> None:
    with listening() as listener:
        notifier = Notifier([listener.address], ["ended"], "notify")
        notifier.send(Message("best", "birds: a new best", ""))
        notifier.send(END)
        notifier.expect_end(LOST)
        notifier.close()
        assert listener.titles(1) == [END.title]
        assert listener.received[0]["message"] == END.body


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_death_of_a_driver_is_told(number: int) -> None:
    with listening() as listener:
        environment = os.environ | {"TUNE_MENTORMIX_NOTIFY": listener.address}
        with subprocess.Popen([sys.executable, "-c", DRIVER], env=environment, stdout=subprocess.PIPE) as driver:
            assert driver.stdout is not None
            assert driver.stdout.readline() == b"ready\n"
            driver.send_signal(number)
        assert listener.titles(1) == [LOST.title]


def test_an_address_that_is_none_is_refused_without_being_shown() -> None:
    with pytest.raises(RequestError) as refused:
        Notifier(["json://127.0.0.1:1/", "hunter2"], ["ended"], "TUNE_MENTORMIX_NOTIFY")
    assert "TUNE_MENTORMIX_NOTIFY: Apprise does not understand address 2" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_kind_that_is_none_is_refused() -> None:
    wrong = {"TUNE_MENTORMIX_NOTIFY": "json://127.0.0.1:1/", "TUNE_MENTORMIX_NOTIFY_ON": "ended won"}
    with pytest.raises(RequestError, match=r"may hold ended, failed, stalled, best, separated by spaces, got 'won'"):
        notifier_of_environment(wrong)
    assert notifier_of_environment({}) is None


def test_what_cannot_be_sent_is_one_warning_without_the_address(caplog: pytest.LogCaptureFixture) -> None:
    with listening(status=500) as listener, caplog.at_level(logging.WARNING):
        notifier = Notifier([listener.address], ["ended"], "notify")
        notifier.send(END)
        notifier.close()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not caplog.messages and time.monotonic() < deadline:
            time.sleep(0.05)
    assert caplog.messages == ["a message could not be sent to all: birds ended (finished) (notify)"]


def test_a_sender_that_was_killed_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier(["json://127.0.0.1:1/"], ["ended"], "notify")
    notifier._sender.kill()
    notifier._sender.wait()
    notifier.send(END)
    notifier.close()
    assert set(caplog.messages) == {"messages cannot be sent any more: their process ended (notify)"}
