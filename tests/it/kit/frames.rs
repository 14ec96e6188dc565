//! The parts of Kafka's protocol that all versions share: frames, request headers, `EndTxn` outcomes and the advertised broker address.

use std::io::{self, Read, Write};

/// Test frames are shorter. A longer one means that the proxy lost the frame boundary.
const FRAME_MAX: usize = 64 << 20;

/// The kinds of requests that a fault can target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Produce,
    Fetch,
    Metadata,
    OffsetFetch,
    FindCoordinator,
    JoinGroup,
    Heartbeat,
    SyncGroup,
    InitProducerId,
    AddPartitionsToTxn,
    AddOffsetsToTxn,
    /// `EndTxn` that commits.
    Commit,
    /// `EndTxn` that aborts.
    Abort,
    TxnOffsetCommit,
    DescribeCluster,
    /// Any other request.
    Other,
}

/// A request header, with the outcome of an `EndTxn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub kind: Kind,
    pub version: i16,
    pub correlation: i32,
}

/// The advertised broker address, and the port that replaces its port.
pub struct Address {
    pub host: String,
    pub broker: u16,
    pub proxy: u16,
}

impl Kind {
    fn of(key: i16, is_commit: bool) -> Self {
        match key {
            0 => Self::Produce,
            1 => Self::Fetch,
            3 => Self::Metadata,
            9 => Self::OffsetFetch,
            10 => Self::FindCoordinator,
            11 => Self::JoinGroup,
            12 => Self::Heartbeat,
            14 => Self::SyncGroup,
            22 => Self::InitProducerId,
            24 => Self::AddPartitionsToTxn,
            25 => Self::AddOffsetsToTxn,
            26 if is_commit => Self::Commit,
            26 => Self::Abort,
            28 => Self::TxnOffsetCommit,
            60 => Self::DescribeCluster,
            _ => Self::Other,
        }
    }

    pub fn has_addresses(self) -> bool {
        matches!(self, Self::Metadata | Self::FindCoordinator | Self::DescribeCluster)
    }
}

impl Head {
    pub fn read(frame: &[u8]) -> io::Result<Self> {
        let key = i16::from_be_bytes(take(frame, 0)?);
        let version = i16::from_be_bytes(take(frame, 2)?);
        let correlation = i32::from_be_bytes(take(frame, 4)?);
        // `EndTxn` ends with its outcome; since version 3 an empty list of tags follows.
        let end = usize::from(version >= 3) + 1;
        let is_commit = frame.len().checked_sub(end).is_some_and(|at| frame[at] == 1);
        Ok(Self { kind: Kind::of(key, is_commit), version, correlation })
    }

    /// Builds an error response without any other content.
    pub fn refusal(self, code: i16) -> Vec<u8> {
        let version = self.version;
        let (throttle, code) = (&[0u8; 4][..], &code.to_be_bytes()[..]);
        // Absent values: minus one, empty strings, empty lists.
        let absent = |length: usize| vec![0xff; length];
        let empty = |length: usize| vec![0; length];
        let (is_flexible, body) = match self.kind {
            Kind::AddOffsetsToTxn | Kind::Commit | Kind::Abort if version < 3 => {
                (false, [throttle, code].concat())
            }
            Kind::Heartbeat if (1..4).contains(&version) => (false, [throttle, code].concat()),
            // Producer id and epoch.
            Kind::InitProducerId if version < 2 => {
                (false, [throttle, code, &absent(8 + 2)].concat())
            }
            Kind::InitProducerId => (true, [throttle, code, &absent(8 + 2), &empty(1)].concat()),
            // Error message, node, host and port.
            Kind::FindCoordinator if (1..3).contains(&version) => {
                (false, [throttle, code, &absent(2 + 4), &empty(2), &absent(4)].concat())
            }
            // Generation, protocol, leader, own id, members.
            Kind::JoinGroup if (2..6).contains(&version) => {
                (false, [throttle, code, &absent(4), &empty(2 + 2 + 2 + 4)].concat())
            }
            // One partition of a topic without a name.
            Kind::TxnOffsetCommit if version == 3 => {
                let topic = [2, 2, b'x', 2, 0, 0, 0, 0];
                (true, [throttle, &topic, code, &empty(1 + 1 + 1)].concat())
            }
            // One group without a name and topics.
            Kind::OffsetFetch if version >= 8 => {
                (true, [throttle, &[2, 1, 1], code, &empty(1 + 1)].concat())
            }
            Kind::AddOffsetsToTxn
            | Kind::Commit
            | Kind::Abort
            | Kind::Heartbeat
            | Kind::FindCoordinator
            | Kind::JoinGroup
            | Kind::OffsetFetch
            | Kind::Produce
            | Kind::Fetch
            | Kind::Metadata
            | Kind::SyncGroup
            | Kind::AddPartitionsToTxn
            | Kind::TxnOffsetCommit
            | Kind::DescribeCluster
            | Kind::Other => {
                panic!("no error response for {self:?}: its layout is unknown")
            }
        };
        let tags = if is_flexible { &[0u8][..] } else { &[] };
        [&self.correlation.to_be_bytes(), tags, &body].concat()
    }
}

impl Address {
    /// Replaces the broker's port with the proxy's port behind every occurrence of the host.
    pub fn replace(&self, frame: &mut [u8]) {
        let port = |u: u16| i32::from(u).to_be_bytes();
        let wanted = [self.host.as_bytes(), &port(self.broker)].concat();
        let mut at = 0;
        while let Some(found) = find(&frame[at..], &wanted) {
            let end = at + found + wanted.len();
            frame[end - 4..end].copy_from_slice(&port(self.proxy));
            at = end;
        }
    }
}

/// Reads one frame without its length; `None` if the stream ends between two frames.
pub fn read_frame(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    let mut got = 0;
    while got < length.len() {
        match from.read(&mut length[got..]) {
            Ok(0) if got == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => got += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let length = usize::try_from(i32::from_be_bytes(length)).ok().filter(|l| *l <= FRAME_MAX);
    let mut frame = vec![0; length.ok_or(io::ErrorKind::InvalidData)?];
    from.read_exact(&mut frame)?;
    Ok(Some(frame))
}

pub fn write_frame(to: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    let length = i32::try_from(frame.len()).expect("frames are small");
    // One write: otherwise the second packet waits for the acknowledgment of the first.
    to.write_all(&[&length.to_be_bytes()[..], frame].concat())
}

pub fn take<const N: usize>(frame: &[u8], at: usize) -> io::Result<[u8; N]> {
    let bytes = frame.get(at..at + N).ok_or(io::ErrorKind::InvalidData)?;
    Ok(bytes.try_into().expect("`N` bytes were sliced"))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|l| l == wanted)
}

pub fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || find(bytes, wanted).is_some()
}

/// A stream that returns its bytes in pieces of this length.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.1.min(into.len());
        self.0.read(&mut into[..length])
    }
}

#[test]
fn frames_are_read_whole_in_pieces_of_any_length() {
    let mut bytes = Vec::new();
    for frame in [&b"first"[..], b"", b"the third"] {
        write_frame(&mut bytes, frame).expect("write to memory");
    }
    for piece in 1..=bytes.len() {
        let mut stream = Pieces(&bytes, piece);
        let mut next = || read_frame(&mut stream).expect("it is right");
        assert_eq!(next().as_deref(), Some(&b"first"[..]), "pieces of {piece}");
        assert_eq!(next().as_deref(), Some(&b""[..]), "pieces of {piece}");
        assert_eq!(next().as_deref(), Some(&b"the third"[..]), "pieces of {piece}");
        assert_eq!(next(), None, "pieces of {piece}");
    }
    let check = |bytes: &[u8], expected: io::ErrorKind| {
        let error = read_frame(&mut Pieces(bytes, 1)).expect_err("it is wrong");
        assert_eq!(error.kind(), expected, "{bytes:?}");
    };
    check(&bytes[..2], io::ErrorKind::UnexpectedEof);
    check(&bytes[..7], io::ErrorKind::UnexpectedEof);
    check(&[0xff; 8], io::ErrorKind::InvalidData);
    check(&[0x7f, 0, 0, 0], io::ErrorKind::InvalidData);
}

/// A request as a client sends it; version 1 unless the body is of a later version.
pub fn request(key: i16, version: i16, correlation: i32, body: &[u8]) -> Vec<u8> {
    let client = [&5i16.to_be_bytes()[..], b"a-one"].concat();
    let (key, version) = (key.to_be_bytes(), version.to_be_bytes());
    [&key[..], &version, &correlation.to_be_bytes(), &client, body].concat()
}

#[test]
fn requests_are_recognized_by_kind() {
    let check = |key: i16, version: i16, body: &[u8], expected: Kind| {
        let head = Head::read(&request(key, version, 7, body)).expect("it has a head");
        assert_eq!(head, Head { kind: expected, version, correlation: 7 });
    };
    check(0, 7, b"records", Kind::Produce);
    check(22, 4, b"", Kind::InitProducerId);
    check(26, 1, b"id-epoch\x01", Kind::Commit);
    check(26, 1, b"id-epoch\x00", Kind::Abort);
    check(26, 3, b"id-epoch\x01\x00", Kind::Commit);
    check(26, 3, b"id-epoch\x00\x00", Kind::Abort);
    check(18, 3, b"", Kind::Other);
    let error = Head::read(b"short").expect_err("it has no head");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn only_the_broker_address_is_replaced() {
    let address = Address { host: "localhost".to_owned(), broker: 9092, proxy: 4711 };
    let there = |port: i32| [&b"\x00\x09localhost"[..], &port.to_be_bytes()].concat();
    let rest = |port: &[u8]| [b"rack localhost, port ".as_slice(), port].concat();
    let frame = |port: i32| {
        [there(port), rest(b"9092"), there(port), there(9093), b"localhost".to_vec()].concat()
    };
    let mut bytes = frame(9092);
    address.replace(&mut bytes);
    assert_eq!(bytes, frame(4711));
}

#[test]
fn an_error_response_reaches_the_client() {
    let head = Head { kind: Kind::Commit, version: 1, correlation: 258 };
    assert_eq!(head.refusal(51), [0, 0, 1, 2, 0, 0, 0, 0, 0, 51]);
    // A flexible response: tags after its header and at its end.
    let head = Head { kind: Kind::InitProducerId, version: 4, correlation: 258 };
    let absent = [0xff; 10];
    assert_eq!(head.refusal(51), [&[0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 51][..], &absent, &[0]].concat());
}
