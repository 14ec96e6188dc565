//! Runs the built program as a user would: starts, kills and stops it, and reads its log.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::kit::clock::Deadline;

/// A process that ends with the test that started it. An `ERROR` line in its log fails that test.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command. Its output is appended to the log, so a restarted process continues the same file.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let file = append(log);
        let child = command
            // Stays open until the test ends: a process that watches its stdin ends with the test in any case.
            .stdin(Stdio::piped())
            .stdout(file.try_clone().expect("a file handle can be copied"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{} does not start: {error}", command.get_program().display())
            });
        Self { child, log: log.to_owned() }
    }

    /// Kills it with kill -9: no handler runs.
    pub fn kill(mut self) {
        self.assert_running();
        self.child.kill().expect("a running child can be killed");
        self.child.wait().expect("a killed child ends");
    }

    /// Sends SIGTERM and asserts exit code 0 within 25 s.
    pub fn stop(self) {
        self.stop_and_read();
    }

    /// The same, and returns the whole log.
    pub fn stop_and_read(mut self) -> String {
        self.assert_running();
        self.signal("TERM");
        let status = self.wait(Duration::from_secs(25));
        assert_eq!(
            status.code(),
            Some(0),
            "after SIGTERM; the end of its log:\n{}",
            self.log_end()
        );
        self.log_text()
    }

    /// Asserts that it exits on its own with exit code 1 and this reason in its log.
    pub fn leave(mut self, wait: Duration, why: &str) {
        let status = self.wait(wait);
        assert!(
            status.code() == Some(1) && self.log_text().contains(why),
            "it left with {status} and did not say `{why}`; the end of its log:\n{}",
            self.log_end()
        );
    }

    /// Returns the exit status if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked")
    }

    /// Sends a signal: `STOP` suspends it, `CONT` resumes it.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status =
            Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill runs");
        assert!(status.success(), "SIG{name} could not be sent");
    }

    /// Waits until it has ended on its own.
    pub fn wait(&mut self, wait: Duration) -> ExitStatus {
        let deadline = Deadline::after(wait);
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(
                !deadline.is_over(),
                "it did not end within {wait:?}; the end of its log:\n{}",
                self.log_end()
            );
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    pub fn assert_running(&mut self) {
        let ended = self.ended();
        assert!(
            ended.is_none(),
            "it ended by itself ({ended:?}); the end of its log:\n{}",
            self.log_end()
        );
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it listens, and returns the address from its log.
    pub fn http_address(&self) -> String {
        const SAID: &str = "http listening address=";
        let deadline = Deadline::after(Duration::from_mins(1));
        loop {
            let text = self.log_text();
            // The last one: a restarted process appends to the same log.
            let place = text.rfind(SAID).map(|t| &text[t + SAID.len()..]);
            if let Some(it) = place.and_then(|p| p.split_whitespace().next()) {
                return it.to_owned();
            }
            assert!(!deadline.is_over(), "it does not listen:\n{}", self.log_end());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Waits until the condition holds; prints the end of the log if it does not.
    pub fn await_condition(&self, what: &str, wait: Duration, mut holds: impl FnMut() -> bool) {
        let deadline = Deadline::after(wait);
        while !holds() {
            assert!(!deadline.is_over(), "waited {wait:?} for {what}:\n{}", self.log_end());
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    pub fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn log_end(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// Sends an HTTP GET; returns status and body.
pub fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").expect("it takes a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a status");
    (status, body.to_owned())
}

/// Returns the sum of a metric over all labels, from `/metrics`.
pub fn figure(address: &str, name: &str) -> usize {
    let (_, text) = get(address, "/metrics");
    text.lines()
        .filter(|t| t.starts_with(name))
        .filter_map(|n| n.rsplit(' ').next()?.parse::<usize>().ok())
        .sum()
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
        if !std::thread::panicking() {
            let text = self.log_text();
            let errors: Vec<&str> = text.lines().filter(|line| is_error(line)).collect();
            assert!(
                errors.is_empty(),
                "logged as an error, which means that a person must act:\n{}",
                errors.join("\n")
            );
        }
    }
}

/// A command of the program under test.
pub fn serinus() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_serinus"));
    command.env("RUST_BACKTRACE", "1").env("NO_COLOR", "1");
    command
}

/// A folder for the files of one test. It is kept for the analysis of failures.
pub fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&path).expect("a folder can be made in the target folder");
    path
}

fn append(path: &Path) -> File {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn is_error(line: &str) -> bool {
    line.contains(" ERROR ") || line.starts_with("ERROR ") || line.contains("\"level\":\"ERROR\"")
}
