"""The files for Docker, Slurm and Kubernetes, held to their specifications."""

from __future__ import annotations

import json
import re
from importlib.resources import files

import jsonschema
import pytest
from compose import PASSWORD, ROOT, VARIABLE, Missing, compose, of, services


def test_it_keeps_to_the_compose_specification() -> None:
    schema = json.loads(files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text())
    found = compose(TUNER_DB_PASSWORD=PASSWORD)
    jsonschema.Draft7Validator(schema).validate(found)
    found["services"]["db"]["healthcheck"]["every"] = "5s"
    with pytest.raises(jsonschema.ValidationError):  # it does look
        jsonschema.Draft7Validator(schema).validate(found)


@pytest.mark.parametrize("variables", [{}, {"TUNER_DB_PASSWORD": ""}], ids=["unset", "empty"])
def test_without_a_password_nothing_starts(variables: dict[str, str]) -> None:
    with pytest.raises(Missing, match=r"TUNER_DB_PASSWORD: .*\.env"):
        compose(**variables)


def test_the_password_stands_in_no_url_and_no_file() -> None:
    for service in services().values():
        carries = [name for name, value in service["environment"].items() if PASSWORD in value]
        assert carries in (["PGPASSWORD"], ["POSTGRES_PASSWORD"])
        assert PASSWORD not in json.dumps({**service, "environment": {}})
    assert "!" + ".env" not in (ROOT / ".dockerignore").read_text()
    assert "/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_only_the_dashboard_can_be_reached_and_only_from_this_host() -> None:
    found = compose(TUNER_DB_PASSWORD=PASSWORD)
    published = {name: service.get("ports", []) for name, service in found["services"].items()}
    assert published.pop("dashboard") == ["127.0.0.1:8080:8080"]
    assert not any(published.values())
    assert found["services"]["db"]["networks"] == ["store"]
    assert found["networks"]["store"] == {"internal": True}
    assert not any(
        service.get("network_mode") or service.get("privileged") for service in found["services"].values()
    )


def test_workers_can_be_scaled_and_are_given_time_to_stop() -> None:
    for name in ("worker", "worker-cpu"):
        worker = services()[name]
        assert not {"container_name", "hostname", "ports"} & worker.keys()  # one name for eight would not start
        assert worker["stop_grace_period"] == "5m"
        assert worker["restart"].startswith("on-failure")  # 0 is the end of the search
    (device,) = services()["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia" and "gpu" in device["capabilities"]
    assert "deploy" not in services()["worker-cpu"] and services()["worker-cpu"]["profiles"] == ["cpu"]


def test_every_name_in_it_is_declared_and_every_volume_has_its_folder_in_the_image() -> None:
    found = compose(TUNER_DB_PASSWORD=PASSWORD)
    made = " ".join(of("RUN"))
    for service in found["services"].values():
        assert service.get("depends_on", {}).keys() <= found["services"].keys()
        assert set(service["networks"]) <= found["networks"].keys()
        for volume in service["volumes"]:
            source, target, *_ = volume.split(":")
            assert source in found["volumes"] or source == "."
            assert "postgres" in service["image"] or f" {target}" in made
    assert re.fullmatch(r"postgres:\d+", found["services"]["db"]["image"])


def test_its_variables_are_told_at_its_top_with_their_defaults() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    head, body = text.split("name: tuner\n", 1)
    for name, operator, word in {found[1:] for found in VARIABLE.findall(body)}:
        told = re.search(rf"#   {name} (.*(?:\n#    .*)*)", head)
        assert told, name
        assert operator == ":?" or word == "." or f"Default: {word}" in told[1], name
