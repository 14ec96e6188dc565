//! The demo as a visitor starts it, on its in-process broker.

use std::time::Duration;

use serde_json::Value;

use crate::kit::clock::Deadline;
use crate::kit::process::{Process, folder, serinus};

fn start(arguments: &[&str], log: &str) -> Process {
    let path = folder("demo").join(log);
    // The address is read from the log, which must be of this run.
    std::fs::remove_file(&path).ok();
    let mut command = serinus();
    command.arg("demo").args(arguments).env_remove("SERINUS_BOOTSTRAP");
    Process::start(&mut command, &path)
}

#[test]
fn the_first_act_ends_with_its_verdict_and_every_request_served_once() {
    let mut process = start(&["--act", "1", "--speed", "60000"], "shadow.log");
    let status = process.wait(Duration::from_mins(2));
    let text = process.log_text();
    assert_eq!(status.code(), Some(0), "{text}");
    for said in [
        "Act 1: v2 in the shadow of v1 (September 1 to 10)",
        "APPLY: Progressing, v1 100% (stable); shadow v2 100%",
        "ADVANCE: Concluded, v1 100% (stable); shadow v2 100%",
        "brier: better proved",
        "each exactly once",
        "Where to look next",
    ] {
        assert!(text.contains(said), "`{said}` is not in:\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "plain lines where there is no terminal");
}

#[test]
fn the_broken_build_is_stopped_on_an_external_broker() {
    let mut process = start(&["--act", "3", "--speed", "60000", "--keep"], "broken.log");
    let deadline = Deadline::after(Duration::from_mins(2));
    while !process.log_text().contains("The world goes on running") {
        process.assert_running();
        assert!(!deadline.is_over(), "{}", process.log_text());
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let text = process.log_text();
    let address = text
        .split_once("inside this process, at ")
        .and_then(|(_, rest)| rest.split_once(". "))
        .expect("the address is printed")
        .0;
    let ask = |arguments: &[&str]| {
        let output = serinus()
            .args(arguments)
            .args(["--bootstrap", address, "-o", "json"])
            .output()
            .expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        (output.status.code(), output.stdout, stderr.into_owned())
    };
    let (code, status, stderr) = ask(&["status", "flights-v3"]);
    assert_eq!(code, Some(3), "an aborted rollout: {stderr}");
    let status: Value = serde_json::from_slice(&status).expect("status is JSON");
    let state = &status["state"];
    assert_eq!((&state["phase"], &state["stable"]), (&"Aborted".into(), &"v2".into()), "{state}");
    // The screen and the topic agree.
    let reason = state["reason"].as_str().expect("there is a reason");
    assert!(reason.starts_with("v3 is worse: ") && text.contains(reason), "{reason}\n{text}");
    let auc = |v: &Value| v["name"] == "auc" && v["verdict"] == "harmful";
    let (code, events, stderr) = ask(&["tail", "rollout-events", "--from-beginning"]);
    assert_eq!(code, Some(0), "{stderr}");
    let aborted = String::from_utf8_lossy(&events)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|l| if l["value"].is_object() { l["value"].clone() } else { l })
        .find(|i| i["verdict"] == "abort")
        .expect("the abort is on the topic");
    let findings = aborted["evidence"]["metrics"].as_array().expect("it names its evidence");
    assert!(findings.iter().any(auc), "{aborted}");
    process.stop();
}
