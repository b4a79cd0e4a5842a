"""What cannot work is refused in one sentence before anything is started."""

from pathlib import Path

import pytest
import yaml

from engine.cluster.guards import buffer_warning, check_cluster, check_data, check_disk, check_study
from engine.cluster.job import Job, make_job
from engine.cluster.nodes import check_nodes, compare, ours
from engine.cluster.runtime import Cluster, granted
from engine.cluster.tuner import Plan, plan, tune_domain
from engine.config import as_yaml, load, resolve
from engine.study import Request
from tests.cluster.studies import tiny_job

SMALL = Cluster(joined=False, cpus=2, gpus=0, object_store_bytes=2**30)


def searching(tmp_path: Path, **domains: object) -> Job:
    """Return the tiny study with another search."""
    tree = yaml.safe_load(as_yaml(tiny_job(tmp_path / "runs").study))
    tree["search"] = {key.replace("__", "."): domain for key, domain in domains.items()}
    for key in tree["search"]:
        *parents, last = key.split(".")
        section = tree
        for parent in parents:
            section = section[parent]
        section.pop(last, None)
    path = tmp_path / "searching.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return make_job(str(path), resolve(load(path)), samples=2)


@pytest.mark.parametrize(
    ("key", "domain"),
    [
        ("student__embed_dim", {"choice": [16, 32], "default": 16}),
        ("data__seed", {"int": [0, 5], "default": 0}),
        ("experts__lr__image", {"loguniform": [0.01, 0.1], "default": 0.03}),
        ("experts__epochs", {"int": [2, 4], "default": 3}),
        ("protocol__epochs", {"int": [2, 4], "default": 3}),
    ],
)
def test_a_search_may_not_change_what_trials_share(key: str, domain: dict[str, object], tmp_path: Path) -> None:
    job = searching(tmp_path, **{key: domain})
    with pytest.raises(ValueError, match=rf"^search\.{key.replace('__', '.')}: all trials .*, expected one value\.$"):
        check_study(job)


def test_experts_are_trained_as_far_as_any_trial_reads(tmp_path: Path) -> None:
    spans = {"choice": [1, 3, 2], "default": 1}
    job = searching(tmp_path, method__span=spans, method__max_start={"int": [1, 4], "default": 1})
    check_study(job)
    assert job.expert_epochs == 6  # the last start, 3, and the longest span


def test_a_searched_number_of_experts_is_trained_in_full(tmp_path: Path) -> None:
    job = searching(tmp_path, experts__count={"int": [1, 5], "default": 2})
    check_study(job)
    assert job.expert_count == 5


def test_experts_that_are_trained_for_too_short_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^experts.epochs is 1, expected at least 4, .*\.$"):
        check_study(tiny_job(tmp_path, "experts.epochs=1", "method.span=3", "method.max_start=2"))
    check_study(tiny_job(tmp_path, "experts.epochs=4", "method.span=3", "method.max_start=2"))


@pytest.mark.parametrize("key", ["method.num_pairs", "baselines.pairs"])
def test_no_more_pairs_than_there_are(key: str, tmp_path: Path) -> None:
    job = tiny_job(tmp_path, f"{key}=[2,1000]" if key.startswith("baselines") else f"{key}=1000")
    with pytest.raises(ValueError, match=rf"^{key} is 1000, expected at most 300, the number of training pairs\.$"):
        check_data(job)


def test_a_request_that_can_never_be_served_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^resources: 3 cpu are asked for, but the cluster has 2 in all\.$"):
        check_cluster(tiny_job(tmp_path, "resources.evaluation.cpu=3"), SMALL)
    with pytest.raises(ValueError, match="2 gpu are asked for, but the cluster has 1"):
        granted(Request(gpu=2), Cluster(joined=True, cpus=4, gpus=1, object_store_bytes=1))
    assert granted(Request(cpu=1, gpu=2), SMALL) == {"cpu": 1, "gpu": 0}


def test_trajectories_that_do_not_fit_are_told(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    assert buffer_warning(job, SMALL) is None
    told = buffer_warning(job, Cluster(joined=False, cpus=2, gpus=0, object_store_bytes=1000))
    assert told is not None
    assert "object store" in told
    assert told.count("\n") == 0


def test_trajectories_have_room_on_the_disk(tmp_path: Path) -> None:
    check_disk(tiny_job(tmp_path / "not" / "there"))
    with pytest.raises(ValueError, match=r"^storage: the trajectories take .* GiB, but the disk of .* GiB free; .*\.$"):
        check_disk(tiny_job(tmp_path, "experts.count=1000000", "experts.epochs=1000000"))


@pytest.mark.usefixtures("ray_local")
def test_the_storage_has_to_be_writable(tmp_path: Path) -> None:
    check_nodes(tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(
        ValueError, match=r"^storage: .*/file/runs cannot be written to \(.*\), expected another folder\.$"
    ):
        check_nodes(tmp_path / "file" / "runs")


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"torch": "1.0"}, r"^versions: the node far has torch 1\.0, expected .* as here\.$"),
        ({"engine": "another"}, r"^versions: the node far has engine another, expected .* as here\.$"),
        (
            {"error": "does not see it"},
            r"^storage: /runs has to be one folder for all nodes, but far does not see it\.$",
        ),
    ],
)
def test_nodes_have_to_agree(told: dict[str, str], sentence: str) -> None:
    here = ours()
    compare(Path("/runs"), here, [{**here, "name": "far", "error": ""}])
    with pytest.raises(ValueError, match=sentence):
        compare(Path("/runs"), here, [{**here, "name": "far", "error": "", **told}])


def test_trials_share_the_cluster() -> None:
    one = {"cpu": 1.0, "gpu": 0.0}
    assert plan(one, SMALL, 8) == Plan(samples=8, concurrent=2, resources=one)
    assert plan(one, SMALL, 1).concurrent == 1
    assert plan({"cpu": 1.0, "gpu": 0.5}, Cluster(True, 8, 1, 1), 8).concurrent == 2
    assert not plan(one, SMALL, 2).leaves(SMALL, one)
    assert plan(one, SMALL, 1).leaves(SMALL, one)


def test_a_choice_of_mappings_is_searched(tmp_path: Path) -> None:
    starts = [{"image": "real", "text": "real"}, {"image": "noise", "text": "real"}]
    job = searching(tmp_path, method__init={"choice": starts, "default": dict(starts[0])})
    check_study(job)
    assert tune_domain(job.study.search["method.init"]).categories == starts
