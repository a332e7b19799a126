//! Frames of an event stream (`application/vnd.amazon.eventstream`), read as their bytes come: two lengths with their checksum,
//! headers, a payload, and the checksum of all of it.

use bytes::Bytes;
use crc32fast::Hasher;

use super::frame_headers::{self, Content, Kind};

/// No event is larger: 10 MiB of payloads in base64, and keys, numbers and names.
const LARGEST: u32 = 32 << 20;
/// The format allows no more.
const LARGEST_HEADERS: u32 = 128 << 10;
const PRELUDE: usize = 12;
const CHECKSUM: usize = 4;

/// Frames that are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// Larger than anything that a service sends.
    #[error("a frame of {0} bytes is announced, and no event takes more than {LARGEST}")]
    TooLarge(u32),
    /// More headers than the frame, or than the format allows.
    #[error("the lengths of a frame contradict each other")]
    Lengths,
    /// Something changed on the way, or it is no event stream.
    #[error("the checksum of a frame is wrong")]
    Checksum,
    /// The checksum may be right all the same.
    #[error("the headers of a frame cannot be read")]
    Headers,
    /// A frame that does not say what it is.
    #[error("a frame has no {0}")]
    Lacks(&'static str),
    /// Neither an event nor an error.
    #[error("a frame is neither an event nor an error")]
    Kind,
}

/// What is known of a frame before its payload comes. Only at its end the checksum tells whether it is true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    pub(crate) content: Content,
    /// The length of the payload.
    pub(crate) payload: usize,
}

/// Reads frame by frame: [`head`](Self::head), then [`payload`](Self::payload) until it is complete. Keeps nothing of a payload.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// What came and was not read yet.
    unread: Bytes,
    /// What came of the part that is read whole: prelude and headers, or the checksum at the end.
    part: Vec<u8>,
    /// What is to come of the payload, once the head is known.
    rest: Option<usize>,
    checksum: Hasher,
}

impl Frames {
    /// Takes the bytes that came next. To be called when all that came before was not enough.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.unread = bytes;
    }

    /// Whether a part of a frame came.
    pub(crate) fn is_within(&self) -> bool {
        self.rest.is_some() || !self.part.is_empty() || !self.unread.is_empty()
    }

    /// What the next frame is. `None`: that needs more bytes.
    pub(crate) fn head(&mut self) -> Result<Option<Head>, FrameError> {
        if !self.has(PRELUDE) {
            return Ok(None);
        }
        let (headers, payload) = lengths(&self.part)?;
        if !self.has(PRELUDE + headers) {
            return Ok(None);
        }
        let (kind, content) = frame_headers::read(self.part.get(PRELUDE..).unwrap_or_default())?;
        self.checksum.update(&self.part);
        self.part.clear();
        self.rest = Some(payload);
        Ok(Some(Head {
            kind,
            content,
            payload,
        }))
    }

    /// Hands over what came of the payload. Whether the frame is complete; else that needs more bytes.
    pub(crate) fn payload(&mut self, mut take: impl FnMut(&[u8])) -> Result<bool, FrameError> {
        let rest = self.rest.unwrap_or_default();
        let came = self.unread.split_to(rest.min(self.unread.len()));
        self.rest = Some(rest - came.len());
        self.checksum.update(&came);
        take(&came);
        if came.len() < rest || !self.has(CHECKSUM) {
            return Ok(false);
        }
        let right = std::mem::take(&mut self.checksum).finalize();
        let is_right = word(&self.part, 0) == right;
        self.part.clear();
        self.rest = None;
        is_right.then_some(true).ok_or(FrameError::Checksum)
    }

    /// Whether so many bytes of a part came.
    fn has(&mut self, len: usize) -> bool {
        let missing = len.saturating_sub(self.part.len());
        let came = self.unread.split_to(missing.min(self.unread.len()));
        self.part.extend_from_slice(&came);
        came.len() == missing
    }
}

/// Of headers and payload.
fn lengths(prelude: &[u8]) -> Result<(usize, usize), FrameError> {
    let (whole, headers) = (word(prelude, 0), word(prelude, 4));
    if whole > LARGEST {
        return Err(FrameError::TooLarge(whole));
    }
    if crc32fast::hash(prelude.get(..8).unwrap_or_default()) != word(prelude, 8) {
        return Err(FrameError::Checksum);
    }
    let (whole, headers_len) = (whole as usize, headers as usize);
    let payload = whole.checked_sub(PRELUDE + headers_len + CHECKSUM);
    match payload {
        Some(payload) if headers <= LARGEST_HEADERS => Ok((headers_len, payload)),
        _ => Err(FrameError::Lengths),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    u32::from_be_bytes(*word.unwrap_or(&[0; 4]))
}
