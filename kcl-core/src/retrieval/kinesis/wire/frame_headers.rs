//! The headers of a frame, which say what it is.

use super::Wire;
use super::frames::FrameError;

/// What a frame is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An event with records, or without any.
    Event,
    /// The answer that stands before the events, or an event that nobody knows yet.
    Other,
    /// Why there are no more events.
    Exception {
        /// As of a call that fails.
        code: String,
        /// What the headers say of it; else the payload does.
        message: Option<String>,
    },
}

/// What a payload is written in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) wire: Wire,
    /// Its type, if that is none of Kinesis.
    pub(crate) foreign: Option<String>,
}

/// The headers that are read.
#[derive(Debug, Default)]
struct Headers<'a> {
    message_type: Option<&'a str>,
    event_type: Option<&'a str>,
    exception_type: Option<&'a str>,
    error_code: Option<&'a str>,
    error_message: Option<&'a str>,
    content_type: Option<&'a str>,
}

/// What a frame with these headers is, and what its payload is written in.
pub(super) fn read(headers: &[u8]) -> Result<(Kind, Content), FrameError> {
    let headers = Headers::of(headers)?;
    Ok((headers.kind()?, headers.content()))
}

impl<'a> Headers<'a> {
    fn of(mut rest: &'a [u8]) -> Result<Self, FrameError> {
        let mut headers = Self::default();
        while !rest.is_empty() {
            let (name, value) = header(&mut rest).ok_or(FrameError::Headers)?;
            let place = match name {
                ":message-type" => &mut headers.message_type,
                ":event-type" => &mut headers.event_type,
                ":exception-type" => &mut headers.exception_type,
                ":error-code" => &mut headers.error_code,
                ":error-message" => &mut headers.error_message,
                ":content-type" => &mut headers.content_type,
                _ => continue,
            };
            *place = Some(value.ok_or(FrameError::Headers)?);
        }
        Ok(headers)
    }

    fn kind(&self) -> Result<Kind, FrameError> {
        let message_type = self.message_type;
        match message_type.ok_or(FrameError::Lacks(":message-type"))? {
            "event" => match self.event_type {
                Some("SubscribeToShardEvent") => Ok(Kind::Event),
                Some(_) => Ok(Kind::Other),
                None => Err(FrameError::Lacks(":event-type")),
            },
            "exception" => Ok(Kind::Exception {
                code: owned(self.exception_type).ok_or(FrameError::Lacks(":exception-type"))?,
                message: None,
            }),
            // What the model of the service does not have.
            "error" => Ok(Kind::Exception {
                code: owned(self.error_code).ok_or(FrameError::Lacks(":error-code"))?,
                message: owned(self.error_message),
            }),
            _ => Err(FrameError::Kind),
        }
    }

    /// The SDK does not look at the type. What is none of Kinesis is tried as JSON, and told of if that fails.
    fn content(&self) -> Content {
        let wire = Wire::of_answer(self.content_type);
        Content {
            wire: wire.unwrap_or(Wire::Json),
            foreign: owned(self.content_type.filter(|_| wire.is_none())),
        }
    }
}

fn owned(text: Option<&str>) -> Option<String> {
    text.map(str::to_owned)
}

const BYTES: u8 = 6;
const TEXT: u8 = 7;

/// The name of the next header, and its value if that is a text.
fn header<'a>(rest: &mut &'a [u8]) -> Option<(&'a str, Option<&'a str>)> {
    let [name_len] = take_array(rest)?;
    let name = str::from_utf8(take(rest, usize::from(name_len))?).ok()?;
    let [kind] = take_array(rest)?;
    let len = match kind {
        // True and false.
        0 | 1 => 0,
        2 => 1,
        3 => 2,
        4 => 4,
        // A long integer, and a time.
        5 | 8 => 8,
        BYTES | TEXT => usize::from(u16::from_be_bytes(take_array(rest)?)),
        // A UUID.
        9 => 16,
        _ => return None,
    };
    let value = take(rest, len)?;
    let text = match kind {
        TEXT => Some(str::from_utf8(value).ok()?),
        _ => None,
    };
    Some((name, text))
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, others) = rest.split_at_checked(len)?;
    *rest = others;
    Some(taken)
}

fn take_array<const LEN: usize>(rest: &mut &[u8]) -> Option<[u8; LEN]> {
    let (taken, others) = rest.split_first_chunk()?;
    *rest = others;
    Some(*taken)
}
