//! Reads lines of any bytes with bounded memory.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// One line, without its line feed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line that fits.
    Whole(Vec<u8>),
    /// A line of so many bytes, more than the limit; it was read over.
    TooLong(u64),
}

/// Reads the next line of at most `limit` bytes; `None` at the end. A last line without a line feed counts.
pub(crate) async fn next_line(
    input: &mut (impl AsyncBufRead + Unpin),
    limit: usize,
) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let mut length: u64 = 0;
    let mut any = false;
    loop {
        let available = input.fill_buf().await?;
        if available.is_empty() {
            return Ok(any.then(|| finish(line, length, limit)));
        }
        any = true;
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = available
            .get(..end.unwrap_or(available.len()))
            .unwrap_or_default();
        length += part.len() as u64;
        if length <= limit as u64 {
            line.extend_from_slice(part);
        }
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            return Ok(Some(finish(line, length, limit)));
        }
    }
}

fn finish(line: Vec<u8>, length: u64, limit: usize) -> Line {
    if length <= limit as u64 {
        Line::Whole(line)
    } else {
        Line::TooLong(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::BufReader;

    async fn all(text: &[u8], limit: usize) -> Vec<Line> {
        // A tiny buffer, so that lines cross its border.
        let mut input = BufReader::with_capacity(3, text);
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut input, limit).await.unwrap() {
            lines.push(line);
        }
        lines
    }

    fn whole(text: &[u8]) -> Line {
        Line::Whole(text.to_vec())
    }

    #[tokio::test]
    async fn lines_of_any_bytes_come_out_as_they_are() {
        assert_eq!(all(b"", 9).await, []);
        assert_eq!(all(b"\n\n", 9).await, [whole(b""), whole(b"")]);
        assert_eq!(
            all(b"one\r\n\xff\x00x\nno line feed", 99).await,
            [whole(b"one\r"), whole(b"\xff\x00x"), whole(b"no line feed")]
        );
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_read_over_and_the_next_one_is_whole() {
        assert_eq!(
            all(b"12345\n123456789\n12345\n", 5).await,
            [whole(b"12345"), Line::TooLong(9), whole(b"12345")]
        );
    }
}
