import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tune_mentormix.errors import RequestError
from tune_mentormix.storage.lease import EXPIRY_SECONDS, LEASE_FILE, Lease

HOLD = "import sys, time, pathlib\nfrom tune_mentormix.storage.lease import Lease\n"
HOLD += "with Lease(pathlib.Path(sys.argv[1])).acquire():\n print('held', flush=True); time.sleep(60)"


def test_a_held_experiment_is_refused_to_a_second_driver(tmp_path: Path) -> None:
    with Lease(tmp_path).acquire():
        assert f"process {os.getpid()}" in str(Lease(tmp_path).holder())
        with pytest.raises(RequestError, match="is running already"), Lease(tmp_path).acquire():
            pass
    assert Lease(tmp_path).holder() is None


def test_nothing_is_left_of_a_lease_that_ended_or_whose_work_was_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError), Lease(tmp_path).acquire():
        raise RequestError("no")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_driver_holds_nothing(tmp_path: Path) -> None:
    driver = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    assert driver.stdout.readline() == "held\n"
    assert f"process {driver.pid}" in str(Lease(tmp_path).holder())
    driver.kill()
    driver.wait()
    assert Lease(tmp_path).holder() is None
    with Lease(tmp_path).acquire():
        pass


@pytest.mark.parametrize(("age", "held"), [(0.0, True), (EXPIRY_SECONDS + 1, False)])
def test_a_lease_from_another_machine_counts_while_it_is_renewed(tmp_path: Path, age: float, held: bool) -> None:
    lease = {"host": "another", "pid": 1, "process_started": 0, "renewed": time.time() - age}
    (tmp_path / LEASE_FILE).write_text(json.dumps(lease))
    assert (Lease(tmp_path).holder() is not None) is held


def test_a_killed_driver_that_is_still_a_zombie_holds_nothing(tmp_path: Path) -> None:
    driver = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    assert driver.stdout.readline() == "held\n"
    driver.kill()
    while psutil.Process(driver.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert Lease(tmp_path).holder() is None
    driver.wait()


@pytest.mark.parametrize(("age", "held"), [(0.0, True), (EXPIRY_SECONDS + 1, False)])
def test_a_lease_from_a_container_of_this_machine_counts_while_it_is_renewed(
    tmp_path: Path, age: float, held: bool
) -> None:
    with Lease(tmp_path).acquire():
        lease = json.loads((tmp_path / LEASE_FILE).read_text())
    of_a_container = {"pid": 2**30, "pid_namespace": 1, "renewed": time.time() - age}
    (tmp_path / LEASE_FILE).write_text(json.dumps(lease | of_a_container))
    assert (Lease(tmp_path).holder() is not None) is held


def test_a_lease_that_cannot_be_read_now_is_not_taken_for_none(tmp_path: Path) -> None:
    (tmp_path / LEASE_FILE).mkdir()
    with pytest.raises(RequestError, match=r"cannot read .*: Is a directory"), Lease(tmp_path).acquire():
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": "a"}'])
def test_a_torn_lease_holds_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / LEASE_FILE).write_text(text)
    assert Lease(tmp_path).holder() is None


@pytest.mark.parametrize(
    ("ahead", "way_out"),
    [
        (0.0, "If it is gone from there, its lease ends in "),
        (86_400.0, "if nothing runs there, delete "),
        (float("inf"), "if nothing runs there, delete "),
    ],
)
def test_a_lease_of_another_machine_names_the_way_out(tmp_path: Path, ahead: float, way_out: str) -> None:
    lease = {"host": "another", "pid": 1, "process_started": 0, "renewed": time.time() + ahead}
    (tmp_path / LEASE_FILE).write_text(json.dumps(lease))
    with pytest.raises(RequestError) as refused:
        Lease(tmp_path).check_free()
    assert "(process 1 on another); stop it there first. " in str(refused.value)
    assert way_out in str(refused.value)
    if "delete" in way_out:
        assert str(refused.value).endswith(f"delete {tmp_path / LEASE_FILE}")
        (tmp_path / LEASE_FILE).unlink()
        Lease(tmp_path).check_free()
