//! The demo's traffic: the flights that left New York in September 2013, as requests and as labels.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::Read;
use std::str::FromStr;

use flate2::read::GzDecoder;
use serde_json::json;

/// The names of the features, in the order in which the models take them.
pub const FEATURES: [&str; 13] = [
    "month",
    "dow",
    "mins",
    "distance",
    "carrier_c",
    "origin_c",
    "dest_c",
    "temp",
    "dewp",
    "humid",
    "wind_speed",
    "precip",
    "visib",
];

/// The file of the first model, a logistic regression.
pub const MODEL_V1: &[u8] = include_bytes!("data/flights_v1.onnx");

/// The file of the second model, gradient-boosted trees.
pub const MODEL_V2: &[u8] = include_bytes!("data/flights_v2.onnx");

const FLIGHTS: &[u8] = include_bytes!("data/flights-2013-09.columns.gz");
const WEATHER: &[u8] = include_bytes!("data/weather-2013-09.csv.gz");
const ROUTES: &str = include_str!("data/routes.csv");
const CARRIERS: &str = include_str!("data/carriers.csv");

/// 2013-09-01T00:00:00Z, from which the files count minutes and hours.
const BEGIN_MS: i64 = 1_377_993_600_000;
const MINUTE_MS: i64 = 60_000;
const HOUR_MINUTES: i64 = 60;
const DAY_MINUTES: i64 = 24 * HOUR_MINUTES;
/// New York was four hours behind UTC all September.
const BEHIND_UTC_MINUTES: i64 = 4 * HOUR_MINUTES;

/// One flight: what is known when it is scheduled to leave, and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Flight {
    /// Names the flight among all of the month, such as `UA1545-20130901-EWR`.
    pub request_id: String,
    /// When it was to leave, in Unix milliseconds.
    pub scheduled: i64,
    /// The aircraft. None for some that were cancelled.
    pub tail_number: Option<String>,
    /// The airline's code.
    pub carrier: String,
    /// The airline's number of the flight.
    pub flight: String,
    /// The airport that it left.
    pub origin: String,
    /// The airport that it went to.
    pub dest: String,
    /// What the models are asked about, see [`FEATURES`].
    pub features: [f32; 13],
    /// How many milliseconds after `scheduled` it was known whether it was late. None if never: cancelled or diverted.
    pub label_delay_ms: Option<i64>,
    /// Whether it arrived 15 or more minutes late. None exactly where `label_delay_ms` is.
    pub late: Option<bool>,
}

impl Flight {
    /// Returns when the label became known, in Unix milliseconds, if it ever did.
    pub fn label_at(&self) -> Option<i64> {
        self.label_delay_ms.map(|delay_ms| self.scheduled + delay_ms)
    }

    /// Returns the body of the request to the model.
    pub fn request_body(&self) -> Vec<u8> {
        let mut features = String::new();
        for (name, value) in FEATURES.iter().zip(self.features) {
            let comma = if features.is_empty() { "" } else { "," };
            // The shortest text that is read back as the same number; whole numbers have no decimals.
            write!(features, r#"{comma}"{name}":{value}"#)
                .expect("a String takes all that is written");
        }
        let number = json!(format!("{}{}", self.carrier, self.flight));
        let (tail_number, origin, dest) =
            (json!(self.tail_number), json!(self.origin), json!(self.dest));
        format!(
            r#"{{"flight":{number},"tailnum":{tail_number},"origin":{origin},"dest":{dest},"features":{{{features}}}}}"#
        )
        .into_bytes()
    }

    /// Returns the body of the label, as of `observed_at` in Unix milliseconds; None if there never is one.
    pub fn label_body(&self, observed_at: i64) -> Option<Vec<u8>> {
        let late = u8::from(self.late?);
        let request_id = json!(self.request_id);
        let body = format!(
            r#"{{"request_id":{request_id},"label":{{"late":{late}}},"observed_at":{observed_at}}}"#
        );
        Some(body.into_bytes())
    }
}

/// Returns the month's flights in the order of their schedule.
///
/// # Panics
///
/// Panics if the embedded files do not fit each other, which a test rules out.
pub fn september_2013() -> Vec<Flight> {
    read_flights().unwrap_or_else(|wrong| panic!("the embedded flights are damaged: {wrong}"))
}

fn read_flights() -> Result<Vec<Flight>, String> {
    let text = unpack(FLIGHTS)?;
    let mut columns: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in text.lines() {
        let (name, values) = line.split_once(',').ok_or("a column without values")?;
        columns.insert(name, values.split(',').collect());
    }
    let tables = Tables::read()?;
    let rows = columns.get("minute").ok_or("no column minute")?.len();
    let mut flights = Vec::with_capacity(rows);
    for row in 0..rows {
        let cell = |name: &str| {
            let value = columns.get(name).and_then(|values| values.get(row));
            value.copied().ok_or_else(|| format!("row {row} has no {name}"))
        };
        flights.push(tables.flight(cell)?);
    }
    flights.sort_by(|one, other| {
        (one.scheduled, &one.request_id).cmp(&(other.scheduled, &other.request_id))
    });
    Ok(flights)
}

/// What many flights have in common.
#[derive(Debug)]
struct Tables {
    /// The models' number of a carrier.
    carriers: BTreeMap<String, f32>,
    /// Of a pair of airports: the models' numbers of both, and the distance.
    routes: BTreeMap<(String, String), [f32; 3]>,
    /// Of an airport and an hour since the month began in UTC: the six features of the weather.
    weather: BTreeMap<(String, i64), [f32; 6]>,
}

impl Tables {
    fn read() -> Result<Self, String> {
        let mut tables =
            Self { carriers: BTreeMap::new(), routes: BTreeMap::new(), weather: BTreeMap::new() };
        for line in CARRIERS.lines().skip(1) {
            let [carrier, code] = cells(line)?;
            tables.carriers.insert(carrier.to_owned(), parse(code)?);
        }
        for line in ROUTES.lines().skip(1) {
            let [origin, dest, origin_code, dest_code, distance] = cells(line)?;
            let route = [parse(origin_code)?, parse(dest_code)?, parse(distance)?];
            tables.routes.insert((origin.to_owned(), dest.to_owned()), route);
        }
        for line in unpack(WEATHER)?.lines().skip(1) {
            let [origin, hour, values @ ..] = cells::<8>(line)?;
            let mut weather = [0.0; 6];
            for (slot, value) in weather.iter_mut().zip(values) {
                *slot = parse(value)?;
            }
            tables.weather.insert((origin.to_owned(), parse(hour)?), weather);
        }
        Ok(tables)
    }

    fn flight<'a>(&self, cell: impl Fn(&str) -> Result<&'a str, String>) -> Result<Flight, String> {
        let minute: i64 = parse(cell("minute")?)?;
        let local = minute - BEHIND_UTC_MINUTES;
        let day = local.div_euclid(DAY_MINUTES);
        let (carrier, flight) = (cell("carrier")?, cell("flight")?);
        let (origin, dest) = (cell("origin")?.to_owned(), cell("dest")?.to_owned());
        let carrier_code =
            self.carriers.get(carrier).ok_or_else(|| format!("no carrier {carrier}"))?;
        let route = (origin, dest);
        let [origin_code, dest_code, distance] =
            self.routes.get(&route).ok_or_else(|| format!("no route {route:?}"))?;
        let (origin, dest) = route;
        let weather = self.weather.get(&(origin.clone(), minute.div_euclid(HOUR_MINUTES)));
        let [temp, dewp, humid, wind_speed, precip, visib] = weather.copied().unwrap_or_default();
        let (label_delay, late) = (cell("label_delay")?, cell("late")?);
        let label_delay_ms = if label_delay.is_empty() {
            None
        } else {
            Some(parse::<i64>(label_delay)? * MINUTE_MS)
        };
        Ok(Flight {
            request_id: format!("{carrier}{flight}-201309{:02}-{origin}", day + 1),
            scheduled: BEGIN_MS + minute * MINUTE_MS,
            tail_number: Some(cell("tailnum")?).filter(|c| !c.is_empty()).map(str::to_owned),
            carrier: carrier.to_owned(),
            flight: flight.to_owned(),
            features: [
                9.0,
                // The first of the month was a Sunday; Monday is 0.
                small((day + 6).rem_euclid(7))?,
                small(local.rem_euclid(DAY_MINUTES))?,
                *distance,
                *carrier_code,
                *origin_code,
                *dest_code,
                temp,
                dewp,
                humid,
                wind_speed,
                precip,
                visib,
            ],
            origin,
            dest,
            label_delay_ms,
            late: if late.is_empty() { None } else { Some(late == "1") },
        })
    }
}

fn unpack(bytes: &[u8]) -> Result<String, String> {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

fn cells<const N: usize>(line: &str) -> Result<[&str; N], String> {
    let cells: Vec<&str> = line.split(',').collect();
    cells.try_into().map_err(|_| format!("`{line}` does not have {N} cells"))
}

fn parse<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number"))
}

fn small(value: i64) -> Result<f32, String> {
    u16::try_from(value).map(f32::from).map_err(|_| format!("{value} is not a small number"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::worker::features::FeatureList;
    use crate::worker::onnx::model::{Model, Prediction};

    #[test]
    fn the_month_is_whole_and_in_order() {
        let flights = september_2013();
        assert_eq!(flights.len(), 27_574);
        assert!(flights.is_sorted_by_key(|flight| flight.scheduled));
        let ids: BTreeSet<_> = flights.iter().map(|flight| &flight.request_id).collect();
        assert_eq!(ids.len(), flights.len(), "request ids are unique");
        let planes: BTreeSet<_> =
            flights.iter().filter_map(|flight| flight.tail_number.as_ref()).collect();
        assert_eq!(planes.len(), 3_201);
        assert!(
            flights.iter().all(|flight| flight.late.is_some() == flight.label_delay_ms.is_some())
        );
        let labels: Vec<bool> = flights.iter().filter_map(|flight| flight.late).collect();
        assert_eq!(flights.len() - labels.len(), 564, "cancelled or diverted");
        assert_eq!(labels.iter().filter(|late| **late).count(), 3_705);
        let mut delays: Vec<i64> =
            flights.iter().filter_map(|flight| flight.label_delay_ms).collect();
        delays.sort_unstable();
        assert_eq!(delays[delays.len() / 2], 154 * MINUTE_MS);
        assert_eq!(delays.last(), Some(&(1_398 * MINUTE_MS)));
        let without_weather = flights.iter().filter(|f| f.features[7..] == [0.0; 6]).count();
        assert_eq!(without_weather, 21);
    }

    #[test]
    fn a_flight_reads_well_as_a_request_and_as_a_label() {
        let flights = september_2013();
        let first = &flights[0];
        assert_eq!(first.request_id, "UA1545-20130901-EWR");
        assert_eq!(first.scheduled, 1_378_026_960_000, "2013-09-01T09:16Z");
        assert_eq!(
            String::from_utf8_lossy(&first.request_body()),
            r#"{"flight":"UA1545","tailnum":"N57869","origin":"EWR","dest":"IAH","features":{"month":9,"dow":6,"mins":316,"distance":1400,"carrier_c":11,"origin_c":0,"dest_c":43,"temp":73.94,"dewp":71.6,"humid":94.1,"wind_speed":9.20624,"precip":0,"visib":10}}"#
        );
        let label_at = first.label_at().expect("it landed");
        assert_eq!(label_at, first.scheduled + 192 * MINUTE_MS);
        assert_eq!(
            first.label_body(label_at).as_deref().map(String::from_utf8_lossy).as_deref(),
            Some(
                r#"{"request_id":"UA1545-20130901-EWR","label":{"late":0},"observed_at":1378038480000}"#
            )
        );
        let cancelled = flights
            .iter()
            .find(|flight| flight.tail_number.is_none())
            .expect("some have no aircraft");
        assert_eq!((cancelled.late, cancelled.label_at()), (None, None));
        assert_eq!(cancelled.label_body(1), None);
        let body: serde_json::Value =
            serde_json::from_slice(&cancelled.request_body()).expect("it is JSON");
        assert!(body["tailnum"].is_null());
    }

    #[test]
    fn a_worker_reads_the_features_that_were_sent() {
        let list = FeatureList::under("/features", &FEATURES);
        let mut features = Vec::new();
        for flight in september_2013() {
            list.read(&flight.request_body(), &mut features).expect("the body has all features");
            let bits = |list: &[f32]| list.iter().map(|l| l.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&features), bits(&flight.features), "{}", flight.request_id);
        }
    }

    #[test]
    fn the_second_model_is_the_better_one_and_its_broken_build_ranks_worse() {
        let whole = FeatureList::under("/features", &FEATURES);
        let broken = whole.clone().divided("mins", 60.0).expect("there is such a feature");
        let check = |name, model, features: &FeatureList, expected: [f64; 2]| {
            let (auc, brier) = quality(model, features);
            let off = (auc - expected[0]).abs().max((brier - expected[1]).abs());
            assert!(off < 0.0005, "{name}: AUC {auc:.4}, Brier score {brier:.4}");
        };
        check("v1", MODEL_V1, &whole, [0.678, 0.128]);
        check("v2", MODEL_V2, &whole, [0.702, 0.115]);
        check("v2 with hours for minutes", MODEL_V2, &broken, [0.629, 0.117]);
    }

    /// Returns a model's AUC and Brier score on the month.
    fn quality(model: &[u8], features: &FeatureList) -> (f64, f64) {
        let model = Model::from_bytes(model).expect("the model is read");
        assert_eq!(model.inputs(), FEATURES.len());
        let (mut row, mut prediction, mut scored) = (Vec::new(), Prediction::default(), Vec::new());
        for flight in september_2013() {
            let Some(late) = flight.late else { continue };
            features.read(&flight.request_body(), &mut row).expect("the body has all features");
            model.predict(&row, &mut prediction).expect("13 features");
            scored.push((f64::from(prediction.score()), late));
        }
        let brier: f64 =
            scored.iter().map(|(score, late)| (score - f64::from(u8::from(*late))).powi(2)).sum();
        scored.sort_by(|one, other| one.0.total_cmp(&other.0));
        // The mean rank of the late ones, ties at their middle.
        let (mut at, mut late_ranks, mut lates) = (0, 0.0, 0.0);
        while at < scored.len() {
            let tied =
                scored[at..].iter().take_while(|a| a.0.total_cmp(&scored[at].0).is_eq()).count();
            let late = scored[at..at + tied].iter().filter(|t| t.1).count() as f64;
            late_ranks += late * f64::midpoint(at as f64 + 1.0, (at + tied) as f64);
            lates += late;
            at += tied;
        }
        let all = scored.len() as f64;
        ((late_ranks - lates * (lates + 1.0) / 2.0) / (lates * (all - lates)), brier / all)
    }
}
