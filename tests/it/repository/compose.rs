//! Checks the compose file and the image without a docker engine: structure, references, versions.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

#[test]
fn the_compose_file_is_one() {
    let compose = compose();
    let unknown: Vec<&String> = top(&compose)
        .keys()
        .filter(|key| !["name", "services", "volumes", "networks"].contains(&key.as_str()))
        .collect();
    assert!(unknown.is_empty(), "not top-level keys of the compose specification: {unknown:?}");
    for (name, service) in services(&compose) {
        let service =
            service.as_object().unwrap_or_else(|| panic!("{name}: a service is a mapping"));
        assert!(
            service.contains_key("image") || service.contains_key("build"),
            "{name}: has neither an image nor a build"
        );
        for (key, value) in service {
            check_key(&name, key, value);
        }
    }
}

#[test]
fn a_service_depends_on_what_exists_and_can_be_healthy() {
    let compose = compose();
    let services = services(&compose);
    let mut waits = 0;
    for (name, service) in &services {
        let Some(dependencies) = service["depends_on"].as_object() else { continue };
        for (dependency, how) in dependencies {
            let target = services.get(dependency).unwrap_or_else(|| {
                panic!("{name} depends on `{dependency}`, which is not a service")
            });
            assert_eq!(
                how["condition"], "service_healthy",
                "{name} waits until {dependency} answers"
            );
            assert!(
                target["healthcheck"]["test"].is_array(),
                "{dependency} has no healthcheck that {name} could wait for"
            );
            assert!(
                target["profiles"].is_null(),
                "{dependency} is in a profile, so {name} may start without it"
            );
            waits += 1;
        }
    }
    assert_eq!(waits, 2, "serinus and the demo wait for Kafka");
}

#[test]
fn profiles_keep_plain_up_to_one_broker() {
    let compose = compose();
    let plain: Vec<String> = services(&compose)
        .iter()
        .filter(|(_, service)| service["profiles"].is_null())
        .map(|(name, _)| name.clone())
        .collect();
    assert_eq!(plain, ["kafka"]);
    let services = services(&compose);
    assert_eq!(services["serinus"]["profiles"][0], "serinus");
    assert_eq!(services["demo"]["profiles"][0], "demo");
}

#[test]
fn the_broker_is_reached_from_inside_and_outside() {
    let compose = compose();
    let kafka = &compose["services"]["kafka"];
    let environment =
        kafka["environment"].as_object().expect("the broker is configured by its environment");
    let listed = |key: &str| -> Vec<String> {
        environment[key].as_str().expect("a string").split(',').map(str::to_owned).collect()
    };
    let listeners: Vec<String> = listed("KAFKA_LISTENERS")
        .iter()
        .map(|l| l.split("://").next().unwrap_or_default().to_owned())
        .collect();
    for mapped in listed("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP") {
        let (listener, _) = mapped.split_once(':').expect("NAME:PROTOCOL");
        assert!(
            listeners.contains(&listener.to_owned()),
            "{listener} is mapped but not listened on"
        );
    }
    let advertised = listed("KAFKA_ADVERTISED_LISTENERS");
    for (_, service) in services(&compose).iter().filter(|(name, _)| *name != "kafka") {
        let bootstrap = service["environment"]["SERINUS_BOOTSTRAP"]
            .as_str()
            .or_else(|| service["command"][2].as_str())
            .expect("it has the address of the broker");
        assert!(
            advertised.iter().any(|a| a.ends_with(&format!("://{bootstrap}"))),
            "{bootstrap} is not advertised in {advertised:?}"
        );
    }
    // The published port is the advertised one, even if kafka.sh chose another.
    let outside = advertised
        .iter()
        .find_map(|a| a.strip_prefix("OUTSIDE://localhost:"))
        .expect("a listener for the host");
    let port = kafka["ports"][0].as_str().expect("a published port");
    assert_eq!(port, format!("127.0.0.1:{outside}:9092"));
}

#[test]
fn every_way_to_kafka_has_one_version() {
    let pom = read("tests/kafka/pom.xml");
    let (_, rest) = pom.split_once("<kafka.version>").expect("the pom names the version");
    let (version, _) = rest.split_once("</kafka.version>").expect("the element ends");
    assert_eq!(compose()["services"]["kafka"]["image"], format!("apache/kafka:{version}"));
}

#[test]
fn the_image_builds_with_the_pinned_toolchain_and_copies_what_exists() {
    let dockerfile = read("Dockerfile");
    let toolchain = read("rust-toolchain.toml");
    let channel = toolchain.split('"').nth(1).expect("the channel is quoted");
    let minor = channel.rsplit_once('.').map_or(channel, |(minor, _)| minor);
    assert!(
        dockerfile.contains(&format!("FROM rust:{minor}-")),
        "the image builds with another Rust than {channel}"
    );
    for line in dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|line| !line.starts_with("--"))
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (_, from) = words.split_last().expect("COPY has a target");
        for path in from {
            assert!(root().join(path).exists(), "the image copies `{path}`, which does not exist");
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn compose() -> Value {
    serde_saphyr::from_str(&read("docker-compose.yml"))
        .unwrap_or_else(|error| panic!("docker-compose.yml is not YAML: {error}"))
}

fn top(compose: &Value) -> &Map<String, Value> {
    compose.as_object().expect("the file is a mapping")
}

fn services(compose: &Value) -> Map<String, Value> {
    compose["services"].as_object().expect("there are services").clone()
}

/// Checks the type of one key of a service against the compose specification; an unlisted key is a typo.
fn check_key(service: &str, key: &str, value: &Value) {
    let is_text_list = |value: &Value| {
        value
            .as_array()
            .is_some_and(|items| !items.is_empty() && items.iter().all(Value::is_string))
    };
    let right = match key {
        "image" | "hostname" | "build" | "restart" => value.is_string(),
        "tty" => value.is_boolean(),
        "command" | "ports" | "volumes" | "profiles" => is_text_list(value),
        // YAML would parse bare numbers and booleans: every value is a string.
        "environment" => {
            value.as_object().is_some_and(|a| !a.is_empty() && a.values().all(Value::is_string))
        }
        "depends_on" => value.is_object(),
        "stop_grace_period" => is_duration(value),
        "healthcheck" => {
            let is_command = is_text_list(&value["test"])
                && (value["test"][0] == "CMD" || value["test"][0] == "CMD-SHELL");
            is_command
                && ["interval", "timeout", "start_period"]
                    .iter()
                    .all(|key| is_duration(&value[*key]))
                && value["retries"].is_u64()
        }
        _ => false,
    };
    assert!(
        right,
        "service `{service}`: `{key}: {value}` is not what the compose specification knows"
    );
}

fn is_duration(value: &Value) -> bool {
    value
        .as_str()
        .and_then(|text| text.strip_suffix(['s', 'm', 'h']))
        .is_some_and(|number| number.parse::<u32>().is_ok())
}
