//! A proxy between a program and its broker that recognizes kinds of requests and delays, cuts, swallows or answers those that a test selects.
//!
//! It replaces the broker's port in responses with its own, so that clients reconnect through it.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use crate::kit::frames::{Address, Head, Kind, contains, read_frame, request, take, write_frame};

/// The effect of a fault on a request.
#[derive(Clone, Copy, Debug)]
pub enum Effect {
    /// Delays it and everything behind it on its connection, then passes it on, even if the client has gone by then.
    Delay(Duration),
    /// Cuts the connection before the broker receives it.
    Cut,
    /// The broker processes it; the response is dropped and the connection is cut.
    SwallowAndCut,
    /// The same, but the connection stays open without any response.
    SwallowInSilence,
    /// The broker does not receive it; the client receives this error code. Only for requests whose response has no other content.
    Error(i16),
}

/// Which requests a fault affects, and how.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub kind: Kind,
    /// Bytes that the request contains, such as a part of the transactional id; empty for all.
    pub of: &'static str,
    /// Number of matching requests to pass first.
    pub after: usize,
    /// Number of matching requests to affect after that.
    pub times: usize,
    pub effect: Effect,
}

impl Fault {
    /// Affects the next request of this kind, once.
    pub fn once(kind: Kind, of: &'static str, effect: Effect) -> Self {
        Self { kind, of, after: 0, times: 1, effect }
    }
}

/// A planned fault to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned(usize);

/// A running proxy; it cuts all connections when dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    host: String,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    address: Address,
}

#[derive(Default)]
struct State {
    faults: Vec<Progress>,
    connections: Vec<Arc<Connection>>,
    is_paused: bool,
    is_closed: bool,
}

struct Progress {
    fault: Fault,
    begun: usize,
    done: usize,
}

/// A request that the broker received and has not answered.
#[derive(Clone, Copy)]
struct Asked {
    kind: Kind,
    swallow: Option<(Planned, Effect)>,
}

struct Connection {
    client: TcpStream,
    broker: TcpStream,
    /// By correlation id.
    asked: Mutex<BTreeMap<i32, Asked>>,
    /// Two threads write to the client: responses of the broker, and error responses of the proxy.
    to_client: Mutex<()>,
}

impl Proxy {
    /// Listens on its own port in front of this broker, the first of a bootstrap address.
    pub fn start(bootstrap: &str) -> Self {
        let first = bootstrap.split(',').next().expect("a split has a first part");
        let (host, port) = first.rsplit_once(':').expect("an address is host:port");
        let broker = port.parse().expect("a port is a number");
        let listener = TcpListener::bind((host, 0)).expect("a port is free");
        let proxy = listener.local_addr().expect("it listens").port();
        let address = Address { host: host.to_owned(), broker, proxy };
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), address });
        let theirs = Arc::clone(&shared);
        thread::spawn(move || theirs.accept(&listener));
        Self { shared, host: host.to_owned() }
    }

    /// The address for the program.
    pub fn bootstrap(&self) -> String {
        format!("{}:{}", self.host, self.shared.address.proxy)
    }

    /// Plans a fault; a request is affected by the first fault that matches it.
    pub fn plan(&self, fault: Fault) -> Planned {
        let mut state = self.shared.lock();
        state.faults.push(Progress { fault, begun: 0, done: 0 });
        Planned(state.faults.len() - 1)
    }

    /// Waits until a fault has affected its planned number of requests.
    pub fn await_done(&self, planned: Planned, wait: Duration) {
        self.await_progress(planned, wait, |w| w.done == w.fault.times);
    }

    /// Waits until a fault has affected its first request, which may still be delayed.
    pub fn await_first(&self, planned: Planned, wait: Duration) {
        self.await_progress(planned, wait, |w| w.begun > 0);
    }

    fn await_progress(&self, planned: Planned, wait: Duration, holds: fn(&Progress) -> bool) {
        let state = self.shared.lock();
        let (state, waited) = self
            .shared
            .changed
            .wait_timeout_while(state, wait, |state| !holds(&state.faults[planned.0]))
            .expect("no thread of the proxy panicked");
        let Progress { fault, begun, done } = &state.faults[planned.0];
        let is_over = waited.timed_out();
        assert!(!is_over, "{fault:?} was begun {begun} and done {done} times within {wait:?}");
    }

    /// Holds all traffic, like a network outage: connections stay open, and no sent bytes are lost.
    pub fn pause(&self) {
        self.shared.lock().is_paused = true;
    }

    pub fn resume(&self) {
        self.shared.lock().is_paused = false;
        self.shared.changed.notify_all();
    }

    /// Blocks for this time; a pause of the scenario.
    pub fn hold(&self, how_long: Duration) {
        self.shared.hold(how_long);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let connections = {
            let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.is_closed = true;
            std::mem::take(&mut state.connections)
        };
        self.shared.changed.notify_all();
        for it in connections {
            it.cut();
        }
        // Unblocks the listener, which waits for a connection.
        TcpStream::connect((self.host.as_str(), self.shared.address.proxy)).ok();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread of the proxy panicked")
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            let Ok(client) = client else { continue };
            if self.lock().is_closed {
                return;
            }
            // If the broker is gone, the client is refused too.
            let broker = TcpStream::connect((self.address.host.as_str(), self.address.broker));
            let Ok(broker) = broker else { continue };
            client.set_nodelay(true).ok();
            broker.set_nodelay(true).ok();
            let connection = Arc::new(Connection {
                client,
                broker,
                asked: Mutex::default(),
                to_client: Mutex::default(),
            });
            self.lock().connections.push(Arc::clone(&connection));
            let (shared, theirs) = (Arc::clone(self), Arc::clone(&connection));
            thread::spawn(move || {
                // Either end may close at any time, which closes the other end.
                shared.pass_requests(&theirs).ok();
                theirs.cut();
            });
            let shared = Arc::clone(self);
            thread::spawn(move || {
                shared.pass_responses(&connection).ok();
                connection.cut();
            });
        }
    }

    fn pass_requests(&self, connection: &Connection) -> io::Result<()> {
        while let Some(frame) = read_frame(&mut &connection.client)? {
            self.await_resumed();
            let head = Head::read(&frame)?;
            let struck = self.strike(head.kind, &frame);
            let mut asked = Asked { kind: head.kind, swallow: None };
            match struck {
                None => {}
                Some((planned, Effect::Delay(delay))) => {
                    self.hold(delay);
                    self.note_done(planned);
                }
                Some((planned, Effect::Cut)) => {
                    connection.cut();
                    self.note_done(planned);
                    return Ok(());
                }
                Some((planned, effect @ (Effect::SwallowAndCut | Effect::SwallowInSilence))) => {
                    asked.swallow = Some((planned, effect));
                }
                Some((planned, Effect::Error(code))) => {
                    connection.say(&head.refusal(code))?;
                    self.note_done(planned);
                    continue;
                }
            }
            connection.asked().insert(head.correlation, asked);
            write_frame(&mut &connection.broker, &frame)?;
        }
        Ok(())
    }

    fn pass_responses(&self, connection: &Connection) -> io::Result<()> {
        let mut is_silent = false;
        while let Some(mut frame) = read_frame(&mut &connection.broker)? {
            self.await_resumed();
            let correlation = i32::from_be_bytes(take(&frame, 0)?);
            let asked = connection.asked().remove(&correlation);
            if let Some((planned, effect)) = asked.and_then(|a| a.swallow) {
                if matches!(effect, Effect::SwallowAndCut) {
                    connection.cut();
                }
                self.note_done(planned);
                is_silent = true;
            }
            if is_silent {
                continue;
            }
            if asked.is_some_and(|a| a.kind.has_addresses()) {
                self.address.replace(&mut frame);
            }
            connection.say(&frame)?;
        }
        Ok(())
    }

    /// Returns the effect on a request and the index of its plan.
    fn strike(&self, kind: Kind, frame: &[u8]) -> Option<(Planned, Effect)> {
        let mut state = self.lock();
        for (index, it) in state.faults.iter_mut().enumerate() {
            let fits = it.begun < it.fault.times
                && it.fault.kind == kind
                && contains(frame, it.fault.of.as_bytes());
            if !fits {
                continue;
            }
            if it.fault.after > 0 {
                it.fault.after -= 1;
                continue;
            }
            it.begun += 1;
            self.changed.notify_all();
            return Some((Planned(index), it.fault.effect));
        }
        None
    }

    fn note_done(&self, planned: Planned) {
        self.lock().faults[planned.0].done += 1;
        self.changed.notify_all();
    }

    /// Sleeps, or returns early if the proxy ends.
    fn hold(&self, how_long: Duration) {
        let state = self.lock();
        drop(
            self.changed
                .wait_timeout_while(state, how_long, |h| !h.is_closed)
                .expect("no thread of the proxy panicked"),
        );
    }

    fn await_resumed(&self) {
        let state = self.lock();
        drop(
            self.changed
                .wait_while(state, |s| s.is_paused && !s.is_closed)
                .expect("no thread of the proxy panicked"),
        );
    }
}

impl Connection {
    fn asked(&self) -> MutexGuard<'_, BTreeMap<i32, Asked>> {
        self.asked.lock().expect("no thread of the proxy panicked")
    }

    fn say(&self, frame: &[u8]) -> io::Result<()> {
        let _alone = self.to_client.lock().expect("no thread of the proxy panicked");
        write_frame(&mut &self.client, frame)
    }

    /// Cuts both ends; cutting twice is harmless.
    fn cut(&self) {
        self.client.shutdown(Shutdown::Both).ok();
        self.broker.shutdown(Shutdown::Both).ok();
    }
}

/// A broker that answers each request with `done` and sends its header to the test.
fn echo() -> (String, mpsc::Receiver<i32>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let address = listener.local_addr().expect("it listens").to_string();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, tell) = (stream.expect("it connects"), tell.clone());
            thread::spawn(move || {
                while let Ok(Some(frame)) = read_frame(&mut &stream) {
                    let head = Head::read(&frame).expect("it has a head");
                    let done = [&head.correlation.to_be_bytes()[..], b"done"].concat();
                    // The test or the proxy may have ended.
                    let is_heard = tell.send(head.correlation).is_ok();
                    if !is_heard || write_frame(&mut &stream, &done).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, told)
}

/// A proxy in front of an echo server, a client, and the requests that the server received.
struct Bench {
    proxy: Proxy,
    asked: mpsc::Receiver<i32>,
}

/// Timeouts for events that must happen and for events that must not.
const SOON: Duration = Duration::from_secs(20);
const NEVER: Duration = Duration::from_millis(200);

impl Bench {
    fn new() -> Self {
        let (address, asked) = echo();
        Self { proxy: Proxy::start(&address), asked }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.proxy.bootstrap()).expect("the proxy listens");
        stream.set_read_timeout(Some(SOON)).expect("a stream can be set up");
        stream
    }

    fn send(stream: &TcpStream, correlation: i32) {
        let frame = request(26, 1, correlation, b"app.serving.one\x01");
        write_frame(&mut &*stream, &frame).expect("the proxy takes it");
    }

    fn ask(stream: &TcpStream, correlation: i32) -> Option<Vec<u8>> {
        Self::send(stream, correlation);
        // A cut connection ends with an error or with end of file.
        read_frame(&mut &*stream).ok().flatten()
    }

    fn plan(&self, effect: Effect) -> Planned {
        self.proxy.plan(Fault::once(Kind::Commit, ".serving.", effect))
    }

    /// Returns the requests of the broker, sorted, once it received exactly this many.
    fn received(&self, count: usize) -> Vec<i32> {
        let mut asked: Vec<i32> = (0..count)
            .map(|_| self.asked.recv_timeout(SOON).expect("it is asked more often"))
            .collect();
        asked.extend(self.asked.try_iter());
        asked.sort_unstable();
        asked
    }
}

fn done(correlation: i32) -> Vec<u8> {
    [&correlation.to_be_bytes()[..], b"done"].concat()
}

#[test]
fn a_fault_affects_only_matching_requests() {
    let bench = Bench::new();
    let client = bench.connect();
    let others = [
        Fault::once(Kind::Abort, "", Effect::Cut),
        Fault::once(Kind::Commit, ".judge.", Effect::Cut),
    ];
    for it in others {
        bench.proxy.plan(it);
    }
    let fault = Fault::once(Kind::Commit, ".serving.", Effect::Error(51));
    let planned = bench.proxy.plan(Fault { after: 1, times: 2, ..fault });
    assert_eq!(Bench::ask(&client, 1), Some(done(1)));
    let refused = |correlation: u8| Some(vec![0, 0, 0, correlation, 0, 0, 0, 0, 0, 51]);
    assert_eq!(Bench::ask(&client, 2), refused(2));
    assert_eq!(Bench::ask(&client, 3), refused(3));
    bench.proxy.await_done(planned, SOON);
    assert_eq!(Bench::ask(&client, 4), Some(done(4)));
    assert_eq!(bench.received(2), [1, 4]);
}

#[test]
fn a_cut_request_never_reaches_the_broker_and_a_swallowed_one_does() {
    let bench = Bench::new();
    for (correlation, effect) in [(1, Effect::Cut), (2, Effect::SwallowAndCut)] {
        let client = bench.connect();
        let planned = bench.plan(effect);
        assert_eq!(Bench::ask(&client, correlation), None, "{effect:?}");
        bench.proxy.await_done(planned, SOON);
    }
    assert_eq!(Bench::ask(&bench.connect(), 3), Some(done(3)));
    assert_eq!(bench.received(2), [2, 3]);
}

#[test]
fn a_silenced_connection_stays_open() {
    let bench = Bench::new();
    let client = bench.connect();
    let planned = bench.plan(Effect::SwallowInSilence);
    Bench::send(&client, 1);
    bench.proxy.await_done(planned, SOON);
    client.set_read_timeout(Some(NEVER)).expect("a stream can be set up");
    Bench::send(&client, 2);
    let error = (&client).read(&mut [0]).expect_err("nothing comes");
    assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
    assert_eq!(Bench::ask(&bench.connect(), 3), Some(done(3)));
    assert_eq!(bench.received(3), [1, 2, 3]);
}

#[test]
fn a_delayed_request_reaches_the_broker_after_its_client_has_gone() {
    let bench = Bench::new();
    let client = bench.connect();
    let planned = bench.plan(Effect::Delay(NEVER));
    Bench::send(&client, 1);
    drop(client);
    bench.proxy.await_done(planned, SOON);
    assert_eq!(bench.asked.recv_timeout(SOON), Ok(1));
}

#[test]
fn a_pause_delays_everything_and_loses_nothing() {
    let bench = Bench::new();
    let client = bench.connect();
    assert_eq!(Bench::ask(&client, 1), Some(done(1)));
    assert_eq!(bench.received(1), [1]);
    bench.proxy.pause();
    Bench::send(&client, 2);
    bench.asked.recv_timeout(NEVER).expect_err("the broker hears nothing");
    bench.proxy.resume();
    assert_eq!(read_frame(&mut &client).expect("the proxy answers"), Some(done(2)));
}
