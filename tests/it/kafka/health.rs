//! Health endpoints of an instance, and its shutdown while the brokers are unreachable, on a real Kafka.

use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;

use crate::kit::kafka::{Kafka, Reader};
use crate::kit::log;
use crate::kit::process::{Process, folder, get, serinus};
use crate::kit::proxy::Proxy;
use crate::kit::worker::{Behavior, Worker};
use crate::kit::world::{WAIT, World};

const SPEC: &str = "
apiVersion: serinus/v1
kind: Model
metadata: {name: MODEL}
spec: {stable: v1, requestId: 'header:ce_id', timeout: 60s, shadowTimeout: 60s}
";

fn command(world: &World, bootstrap: &str) -> Command {
    let mut command = serinus();
    command.args(["run", "--bootstrap", bootstrap, "--app", &world.name, "--instance", "one"]);
    command.arg("--apply").arg(&world.spec).arg("--create-topics");
    command
}

#[test]
fn an_instance_reports_liveness_readiness_and_metrics() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "health", SPEC);
    let log = folder(&world.name).join("run-one.log");
    let mut start = command(&world, &kafka.bootstrap);
    let run = Process::start(start.args(["--http", "127.0.0.1:0"]), &log);
    let address = run.http_address();
    // It listens before it has joined its groups, and reports that it is not ready.
    let (status, body) = get(&address, "/readyz");
    assert_eq!(status, 503, "{body}");
    run.await_condition("readiness", WAIT, || get(&address, "/readyz").0 == 200);
    assert_eq!(get(&address, "/livez").0, 200);
    let (_, body) = get(&address, "/readyz");
    let said: Value = serde_json::from_str(&body).expect("it is JSON");
    let roles: Vec<&str> = said["roles"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|a| a["role"].as_str())
        .collect();
    assert_eq!(roles, ["analysis", "control", "serving"]);
    let _worker = Worker::start(&kafka, &world.name, "v1", Behavior::default());
    world.send_requests(0, 40);
    let mut served = Reader::open(&kafka, &world.topic("served"));
    served.until("an answer to each request", WAIT, |u| u.len() >= 40);
    let wanted = format!("serinus_served_ok_total{{model=\"{}\"}} 40", world.name);
    run.await_condition(&wanted, WAIT, || get(&address, "/metrics").1.contains(&wanted));
    let (_, text) = get(&address, "/metrics");
    for line in ["serinus_role_ready{role=\"serving\"} 1", "# TYPE serinus_open_cases gauge"] {
        assert!(text.contains(line), "no `{line}` in:\n{text}");
    }
    assert_eq!(get(&address, "/nowhere").0, 404);
    run.stop();
}

#[test]
fn an_occupied_address_fails_the_startup() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "taken", SPEC);
    let taken = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = taken.local_addr().expect("it has an address").to_string();
    let output =
        command(&world, &kafka.bootstrap).args(["--http", &address]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("failed to serve HTTP at {address}")), "{said}");
}

/// SIGTERM arrives with requests in an open transaction that cannot be committed: the process still ends in time.
#[test]
fn an_instance_stops_in_time_while_the_brokers_are_unreachable() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "unreachable", SPEC);
    let proxy = Proxy::start(&kafka.bootstrap);
    let log = folder(&world.name).join("run-one.log");
    let run = Process::start(&mut command(&world, &proxy.bootstrap()), &log);
    run.await_condition("its lanes", WAIT, || log::serving_lanes(&run.log_text()) == 4);
    let worker = Worker::start(&kafka, &world.name, "v1", Behavior::default());
    world.send_requests(0, 40);
    proxy.pause();
    run.stop();
    drop(worker);
    proxy.resume();
    // The next instance answers the open requests.
    let run = world.run();
    let _worker = Worker::start(&kafka, &world.name, "v1", Behavior::default());
    let mut served = Reader::open(&kafka, &world.topic("served"));
    served.until("an answer to each request", WAIT, |u| u.len() >= 40);
    run.stop();
    assert_eq!(kafka.read_all(&world.topic("served")).len(), 40, "each is answered once");
}
