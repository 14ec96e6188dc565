//! The examples of the contract can be read, and written records have their shape.

use serinus::wire::analysis::AnalysisRecord;
use serinus::wire::command::CommandRecord;
use serinus::wire::event::EventRecord;
use serinus::wire::metrics::{CheckVerdict, MetricsRecord};
use serinus_core::engine::judge::command::Verb;

use crate::wire::schemas::assert_as_published;

const METRICS: &str = r#"{"rollout":"flights-v2","model":"flights","strategy":"canary","revision":7,"stage":2,"tick":1377990000000,
 "arms":[{"version":"v1","role":"stable","share":0.75,"exposures":5031,"answered":5030,"errors":0,"timeouts":1,"late":0,"fallbacks":0,
          "labelled":4100,"mature":3900,"coverage":0.98,"latency_ms":{"p50":3.1,"p95":6.0,"p99":9.7}}],
 "metrics":[{"name":"brier","kind":"brier","role":"goal","candidate":"v2","n":3900,
   "arms":{"v1":{"estimate":0.128,"low":0.120,"high":0.136,"n":2900},"v2":{"estimate":0.115,"low":0.103,"high":0.127,"n":1000}},
   "difference":{"estimate":-0.013,"low":-0.021,"high":-0.004},"margin":0.01,
   "log_e":{"harm":-3.2,"non_inferior":9.8,"superior":4.4},"p":{"harm":1.0,"non_inferior":5.5e-5,"superior":0.012},
   "classic":{"test":"welch_t","statistic":-3.1,"p":0.002},"verdict":"proved"}],
 "health":{"split":{"p":0.4,"verdict":"ok"},"label_parity":{"p":1.0,"verdict":"ok"},"mixed_units":0,"lag":12,"unplanned":0,"no_data":false},
 "verdict":"hold","reason":"brier: non-inferior proved (-0.013 [-0.021, -0.004], limit +0.010, n 3,900 compared); holding until 14:30","eta":1377993600000}"#;

const EVENT: &str = r#"{"rollout":"flights-v2","model":"flights","sequence":12,"at":1,"actor":"judge","command_id":null,"verdict":"advance","reason":"...",
 "from":{"phase":"Progressing","stage":1,"revision":6,"stable":"v1","salt":"k3...","shares":{"v2":0.05},"shadows":{}},
 "to":{"phase":"Progressing","stage":2,"revision":7,"stable":"v1","salt":"k3...","shares":{"v2":0.25},"shadows":{},"slices":[["v2",0.5]]},
 "evidence":null,"positions":[["flights.predictions",0,5120]]}"#;

const COMMAND: &str = r#"{"id":"uuid","rollout":"flights-v2","model":"flights","verb":"pause","by":"ann","reason":"...","expect_revision":7}"#;

const ANALYSIS: &str = r#"{"request_id":"r1","model":"flights","rollout":"flights-v2","revision":7,"stage":2,"unit":"N14228","arm":"v2","propensity":0.25,
 "served":{"version":"v2","outcome":"ok"},"requested_at":1,"routed_at":2,"served_at":9,
 "answers":[{"version":"v2","role":"serve","status":"ok","latency_ms":6.1,"value":{"score":0.12}},
            {"version":"v1","role":"shadow","status":"timeout"}],
 "source":{"partition":3,"offset":1042},"label":{"late":1},"label_status":"labelled","label_delay_ms":7,"row_version":1,
 "matured_at":{"prediction_watermark":1377993600000,"label_watermark":1377993590000,"slowest_label_partition":3},
 "scores":{"v1":{"brier":0.01},"v2":{"brier":0.02}}}"#;

#[test]
fn the_examples_of_the_contract_can_be_read() {
    let metrics = MetricsRecord::read(METRICS.as_bytes()).expect("metrics");
    assert_eq!(metrics.health.split.verdict, CheckVerdict::Ok);
    assert_eq!(MetricsRecord::read(&metrics.write()), Ok(metrics));
    let event = EventRecord::read(EVENT.as_bytes()).expect("an event");
    assert_eq!(event.key(), "flights-v2");
    assert_eq!(EventRecord::read(&event.write()), Ok(event));
    let command = CommandRecord::read(COMMAND.as_bytes()).expect("a command");
    assert_eq!((command.verb, command.expect_revision), (Verb::Pause, Some(7)));
    assert_as_published("command", &command);
    let row = AnalysisRecord::read(ANALYSIS.as_bytes()).expect("a row");
    assert_eq!(AnalysisRecord::read(&row.write()), Ok(row));
}

#[test]
fn what_cannot_be_read_says_why() {
    let error =
        CommandRecord::read(br#"{"id":"1","model":"m","verb":"fly"}"#).expect_err("no verb");
    assert!(error.to_string().starts_with("malformed command: unknown variant `fly`"), "{error}");
}
