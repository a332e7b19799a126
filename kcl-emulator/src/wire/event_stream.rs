//! Frames of `application/vnd.amazon.eventstream`: a prelude of two lengths and their CRC-32,
//! headers, payload, and the CRC-32 of all of it.

use bytes::{BufMut, Bytes, BytesMut};

/// The media type of an answer that is an event stream.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

const PRELUDE: usize = 12;
const CHECKSUM: usize = 4;
/// The header value type "string".
const STRING: u8 = 7;

/// A frame with an event, for example `initial-response`.
pub(crate) fn event(event_type: &str, content_type: &str, payload: &[u8]) -> Bytes {
    frame(
        &[
            (":message-type", "event"),
            (":event-type", event_type),
            (":content-type", content_type),
        ],
        payload,
    )
}

/// A frame with an error of the service; the stream ends after it.
pub(crate) fn exception(code: &str, content_type: &str, payload: &[u8]) -> Bytes {
    frame(
        &[
            (":message-type", "exception"),
            (":exception-type", code),
            (":content-type", content_type),
        ],
        payload,
    )
}

fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Bytes {
    let headers_length: usize = headers
        .iter()
        .map(|(name, value)| 1 + name.len() + 3 + value.len())
        .sum();
    let length = PRELUDE + headers_length + payload.len() + CHECKSUM;
    let mut frame = BytesMut::with_capacity(length);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    frame.put_u32(u32::try_from(headers_length).unwrap_or(u32::MAX));
    frame.put_u32(crc32fast::hash(&frame));
    for (name, value) in headers {
        frame.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        frame.put_slice(name.as_bytes());
        frame.put_u8(STRING);
        frame.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
        frame.put_slice(value.as_bytes());
    }
    frame.put_slice(payload);
    frame.put_u32(crc32fast::hash(&frame));
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_message_is_sixteen_bytes() {
        // The sample message of the format's description: no headers, no payload.
        let expected = [
            0, 0, 0, 0x10, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff,
        ];
        assert_eq!(frame(&[], b"").as_ref(), expected);
    }

    #[test]
    fn lengths_and_checksums_cover_headers_and_payload() {
        let message = event("SubscribeToShardEvent", "application/json", b"{}");
        let word = |at: usize| u32::from_be_bytes(message[at..at + 4].try_into().unwrap());
        let length = message.len();
        assert_eq!(usize::try_from(word(0)).unwrap(), length);
        assert_eq!(word(8), crc32fast::hash(&message[..8]));
        assert_eq!(word(length - 4), crc32fast::hash(&message[..length - 4]));
        let headers = usize::try_from(word(4)).unwrap();
        assert_eq!(&message[12 + headers..length - 4], b"{}");
        assert_eq!(&message[12..26], b"\x0d:message-type");
    }
}
