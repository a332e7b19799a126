//! The partition key of a line.

use kcl_aggregation::hash_key;

/// Kinesis takes keys of 1 to 256 characters.
const LONGEST_KEY: usize = 256;

/// How keys are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyRule {
    /// Which field, from 1.
    pub(crate) field: Option<u16>,
    /// What separates fields; white space if nothing.
    pub(crate) delimiter: Option<u8>,
}

impl KeyRule {
    /// The key of a line, given its number.
    pub(crate) fn key(self, line: &[u8], number: u64) -> String {
        match self.field(line) {
            Some(field) => fit(String::from_utf8_lossy(field).into_owned()),
            None => number.to_string(),
        }
    }

    fn field(self, line: &[u8]) -> Option<&[u8]> {
        let index = usize::from(self.field?.checked_sub(1)?);
        let field = match self.delimiter {
            Some(delimiter) => line.split(|byte| *byte == delimiter).nth(index),
            None => line
                .split(u8::is_ascii_whitespace)
                .filter(|field| !field.is_empty())
                .nth(index),
        };
        field.filter(|field| !field.is_empty())
    }
}

/// A key that is too long becomes its hash, so that equal fields still have equal keys.
fn fit(key: String) -> String {
    if key.chars().count() <= LONGEST_KEY {
        key
    } else {
        format!("{:032x}", hash_key(&key))
    }
}

pub(crate) fn parse_delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() => Ok(*byte),
        b"\\t" => Ok(b'\t'),
        _ => Err("use one ASCII character, or \\t".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_the_key_and_the_line_number_stands_in() {
        let blank = KeyRule {
            field: Some(2),
            delimiter: None,
        };
        assert_eq!(blank.key(b"  a \t b  c", 7), "b");
        assert_eq!(blank.key(b"a", 7), "7");
        assert_eq!(blank.key(b"", 7), "7");
        let comma = KeyRule {
            field: Some(2),
            delimiter: Some(b','),
        };
        assert_eq!(comma.key(b"a,b c,d", 7), "b c");
        assert_eq!(comma.key(b"a,,d", 7), "7");
        let none = KeyRule {
            field: None,
            delimiter: None,
        };
        assert_eq!(none.key(b"a b", 7), "7");
    }

    #[test]
    fn any_field_makes_a_key_that_the_service_takes() {
        let rule = KeyRule {
            field: Some(1),
            delimiter: None,
        };
        let long = "x".repeat(257);
        assert_eq!(rule.key(long.as_bytes(), 1).len(), 32);
        assert_eq!(rule.key(long.as_bytes(), 1), rule.key(long.as_bytes(), 2));
        assert_eq!(rule.key(&[0xff, b'a'], 1), "\u{fffd}a");
        assert!(rule.key("ä".repeat(256).as_bytes(), 1).chars().count() <= LONGEST_KEY);
    }

    #[test]
    fn a_delimiter_is_one_character() {
        assert_eq!(parse_delimiter(","), Ok(b','));
        assert_eq!(parse_delimiter("\\t"), Ok(b'\t'));
        assert!(
            parse_delimiter("").is_err()
                && parse_delimiter("ab").is_err()
                && parse_delimiter("ä").is_err()
        );
    }
}
