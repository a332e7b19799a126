//! Text of others in messages of ours.

/// Longest text of the service that is repeated in a message.
const MAX_CHARS: usize = 400;

/// `text` on one line: white space and control characters become single blanks, too much of it is cut.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(MAX_CHARS));
    for (count, word) in text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .enumerate()
    {
        if count > 0 {
            line.push(' ');
        }
        line.push_str(word);
    }
    match line.char_indices().nth(MAX_CHARS) {
        Some((cut, _)) => format!("{}...", line.get(..cut).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_one_line_of_bounded_length() {
        assert_eq!(one_line(" a\r\n\tb \u{1b}[31mc "), "a b [31mc");
        assert_eq!(one_line(""), "");
        let long = one_line(&"ä".repeat(5000));
        assert_eq!(long.chars().count(), MAX_CHARS + 3);
    }
}
