//! Secrets in command lines, masked where a report is made to be shared.
//!
//! Pages and summaries end up in tickets and on public CI pages. What stands after a name that says that it is
//! secret, as in `--token=abc` or `PASSWORD=abc`, does not. That is a habit and no proof: a secret that nothing
//! announces stays.

use std::borrow::Cow;

/// What a name contains whose value is nobody's business.
const NAMES: [&str; 9] =
    ["token", "secret", "password", "passwd", "passphrase", "api_key", "apikey", "access_key", "private_key"];

const MASK: &str = "***";

/// The text without the values of `name=value` and `--name value` whose name says that they are secret.
pub(super) fn mask(text: &str) -> Cow<'_, str> {
    if !text.contains(['=', ' ']) || !is_secret(text) {
        return Cow::Borrowed(text);
    }
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    // The word before was an option without a value, whose value comes next.
    let mut hide = false;
    while !rest.is_empty() {
        let end = rest.find(|c: char| c.is_whitespace()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let gap = after.len() - after.trim_start().len();
        hide = push_word(&mut masked, word, hide);
        masked.push_str(&after[..gap]);
        rest = &after[gap..];
    }
    Cow::Owned(masked)
}

/// Adds a word; true when the next one is its value.
fn push_word(masked: &mut String, word: &str, hide: bool) -> bool {
    if hide && !word.starts_with('-') {
        masked.push_str(MASK);
        return false;
    }
    match word.split_once('=') {
        Some((name, value)) if is_secret(name) && !value.is_empty() => {
            masked.push_str(name);
            masked.push('=');
            masked.push_str(MASK);
            // What closed the quotes around it.
            masked.push_str(if word.ends_with('\'') { "'" } else { "" });
            false
        }
        _ => {
            masked.push_str(word);
            word.starts_with("--") && !word.contains('=') && is_secret(word)
        }
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    NAMES.iter().any(|secret| name.contains(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announced_secrets_are_masked() {
        for (line, masked) in [
            ("npm publish --token=abc --dry-run", "npm publish --token=*** --dry-run"),
            ("env GITHUB_TOKEN=ghp_x make", "env GITHUB_TOKEN=*** make"),
            ("psql --password hunter2 -h db", "psql --password *** -h db"),
            ("curl --api-key  'k' x", "curl --api-key  *** x"),
            ("sh -c 'PASSWORD=a'", "sh -c 'PASSWORD=***'"),
            ("x --token --verbose", "x --token --verbose"),
        ] {
            assert_eq!(mask(line), masked);
        }
    }

    #[test]
    fn everything_else_stays() {
        for line in ["node --max-old-space-size=64 app.js", "tokenizer", "a = b", "", "--token", "TOKEN="] {
            assert_eq!(mask(line), line);
        }
    }
}
