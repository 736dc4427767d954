"""The sidecar's manifest agrees with itself and with the configuration."""

from pathlib import Path

import pytest
import yaml

from servekit.config import Config, load
from servekit.config.loading import flag_name
from servekit.config.schema import SECTIONS

MANIFEST = Path(__file__).parents[2] / "configs" / "kubernetes-sidecar.yaml"
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
FLAGS = {flag_name((section, key)): (section, key) for section, model in SECTIONS.items() for key in model.model_fields}


@pytest.fixture(scope="module")
def pod():
    return yaml.safe_load(MANIFEST.read_text())


@pytest.fixture(scope="module")
def sidecar(pod):
    (only,) = pod["spec"]["initContainers"]
    return only


@pytest.fixture(scope="module")
def config(sidecar) -> Config:
    flags = dict(argument.split("=", 1) for argument in sidecar["args"] if argument.startswith("--"))
    return load(environment={}, flags={FLAGS[flag]: value for flag, value in flags.items()})


def mounts(container):
    return {mount["name"]: mount for mount in container["volumeMounts"]}


def test_the_sidecar_starts_first_and_stays(sidecar):
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["args"][0] == "serve"


def test_every_flag_is_one_that_serve_has_and_its_value_is_allowed(config):
    assert config.data.http_port is None
    assert config.data.grpc_port is None


def test_the_socket_is_on_a_volume_that_both_containers_share(pod, sidecar, config):
    (application,) = pod["spec"]["containers"]
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert "emptyDir" in volumes["socket"]
    assert Path(config.data.uds).parent == Path(mounts(sidecar)["socket"]["mountPath"])
    assert mounts(application)["socket"]["mountPath"] == mounts(sidecar)["socket"]["mountPath"]
    assert {"name": "INFERENCE_SOCKET", "value": config.data.uds} in application["env"]


def test_models_are_mounted_where_they_are_served_from_and_cannot_be_changed(sidecar):
    assert sidecar["args"][1] == mounts(sidecar)["models"]["mountPath"]
    assert mounts(sidecar)["models"]["readOnly"] is True


def test_what_is_learnt_is_kept_on_a_volume(pod, sidecar):
    (cache,) = [entry["value"] for entry in sidecar["env"] if entry["name"] == "XDG_CACHE_HOME"]
    assert mounts(sidecar)["cache"]["mountPath"] == cache
    assert "emptyDir" in {volume["name"]: volume for volume in pod["spec"]["volumes"]}["cache"]


@pytest.mark.parametrize("probe", PROBES)
def test_probes_ask_over_the_socket_because_the_kubelet_cannot(sidecar, config, probe):
    question = ["--live"] if probe == "livenessProbe" else []
    assert sidecar[probe]["exec"]["command"] == ["servekit", "probe", *question, f"--uds={config.data.uds}"]


def test_the_startup_probe_waits_for_the_longest_load(sidecar, config):
    probe = sidecar["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] * 1_000 >= config.limits.load_ms_max


def test_the_kubelet_waits_longer_than_a_drain_may_take(pod, config):
    assert pod["spec"]["terminationGracePeriodSeconds"] * 1_000 > config.limits.drain_ms_max


def test_resources_are_whole_processors_and_guaranteed(pod, sidecar):
    assert sidecar["resources"]["limits"]["cpu"].isdigit()
    for container in (sidecar, *pod["spec"]["containers"]):
        assert container["resources"]["requests"] == container["resources"]["limits"]


def test_nothing_runs_with_more_rights_than_it_needs(pod, sidecar):
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    for container in (sidecar, *pod["spec"]["containers"]):
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]}


def test_prometheus_is_sent_to_the_management_port(pod, sidecar, config):
    notes = pod["metadata"]["annotations"]
    assert notes["prometheus.io/port"] == str(config.management.port) == str(sidecar["ports"][0]["containerPort"])
    assert notes["prometheus.io/path"] == "/metrics"
    assert config.management.host == "$(POD_IP)"
